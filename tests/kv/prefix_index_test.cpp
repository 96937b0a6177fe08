#include "kv/prefix_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::string_view kRoot[] = {"model"};

// The link of a block of 16 tokens, all `token` but the last.
PrefixIndex::Link link_of(const BlockKey& parent, TokenId token, TokenId last) {
  PrefixIndex::Link link;
  link.parent = parent;
  link.tokens.fill(token);
  link.tokens.back() = last;
  link.key = link.kin = next_key(parent, link.tokens);
  return link;
}

class PrefixIndexTest : public testing::Test {
 protected:
  const BlockKey root_ = root_key(kRoot);
  const PrefixIndex::Link first_ = link_of(root_, 1, 1);
  const PrefixIndex::Link second_ = link_of(first_.key, 2, 2);
  PrefixIndex index_;
};

TEST_F(PrefixIndexTest, FindsTheLongestBeginning) {
  ASSERT_TRUE(index_.add(7, first_));
  ASSERT_TRUE(index_.add(3, second_));
  const PrefixIndex::Link third = link_of(second_.key, 3, 3);
  EXPECT_THAT(index_.find_chain(std::vector{first_.key, second_.key, third.key}), ElementsAre(7, 3));
  EXPECT_THAT(index_.find_chain(std::vector{third.key, first_.key}), IsEmpty());
  EXPECT_TRUE(index_.has(7));
  EXPECT_FALSE(index_.has(8));
}

TEST_F(PrefixIndexTest, TheFirstBlockWithAKeyKeepsIt) {
  ASSERT_TRUE(index_.add(7, first_));
  EXPECT_FALSE(index_.add(8, first_));
  EXPECT_EQ(index_.find(first_.key), 7);
  EXPECT_FALSE(index_.has(8));
  EXPECT_THROW(index_.add(7, second_), CheckFailure);
}

TEST_F(PrefixIndexTest, RemembersWhatItForgot) {
  ASSERT_TRUE(index_.add(7, first_));
  index_.forget(7);
  EXPECT_EQ(index_.find(first_.key), std::nullopt);
  EXPECT_TRUE(index_.was_forgotten(first_.key));
  EXPECT_FALSE(index_.was_forgotten(second_.key));
  EXPECT_FALSE(index_.had_by_kin(first_.kin));
  EXPECT_THROW(index_.forget(7), CheckFailure);
  ASSERT_TRUE(index_.add(9, first_));  // computed again
  EXPECT_EQ(index_.find(first_.key), 9);
}

TEST_F(PrefixIndexTest, RemembersABoundedNumber) {
  for (std::size_t i = 0; i <= kRememberedKeys; ++i) {
    ASSERT_TRUE(index_.add(1, link_of(root_, static_cast<TokenId>(i), 0)));
    index_.forget(1);
  }
  EXPECT_FALSE(index_.was_forgotten(link_of(root_, 0, 0).key));
  EXPECT_TRUE(index_.was_forgotten(link_of(root_, 1, 0).key));
}

TEST_F(PrefixIndexTest, TellsWhereAPromptLeavesWhatIsThere) {
  ASSERT_TRUE(index_.add(1, link_of(root_, 5, 6)));
  ASSERT_TRUE(index_.add(2, link_of(root_, 9, 9)));
  std::vector<TokenId> tokens(16, 5);
  EXPECT_EQ(index_.common_tokens(root_, tokens), 15);
  tokens[3] = 0;
  EXPECT_EQ(index_.common_tokens(root_, tokens), 3);
  EXPECT_EQ(index_.common_tokens(root_, std::span(tokens).first(2)), 2);
  EXPECT_EQ(index_.common_tokens(first_.key, tokens), std::nullopt);
  index_.forget(1);
  EXPECT_EQ(index_.common_tokens(root_, tokens), 0);
}

TEST_F(PrefixIndexTest, KnowsTheSameTokensOfAnotherSalt) {
  PrefixIndex::Link other = first_;
  other.key = second_.key;  // of another root
  ASSERT_TRUE(index_.add(1, other));
  EXPECT_EQ(index_.find(first_.key), std::nullopt);
  EXPECT_TRUE(index_.had_by_kin(first_.kin));
}

}  // namespace
}  // namespace cortex
