#include "engine/output_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cortex {
namespace {

using testing::ElementsAre;
using Tokens = std::vector<TokenId>;

TEST(OutputStore, FindsTheLongestMatchThenTheLatest) {
  OutputStore store(1 << 20);
  store.add("a", Tokens{1, 2, 3, 4, 5});
  store.add("a", Tokens{9, 2, 3, 6});
  EXPECT_THAT(store.find("a", Tokens{2, 3})->next, ElementsAre(6));
  EXPECT_THAT(store.find("a", Tokens{1, 2, 3})->next, ElementsAre(4, 5));
  EXPECT_EQ(store.find("a", Tokens{1, 2, 3})->matched, 3);
  EXPECT_FALSE(store.find("a", Tokens{3, 2}));
}

TEST(OutputStore, SaltsKeepTextsApart) {
  OutputStore store(1 << 20);
  store.add("a", Tokens{1, 2, 3});
  store.add("b", Tokens{1, 2, 4});
  EXPECT_THAT(store.find("a", Tokens{1, 2})->next, ElementsAre(3));
  EXPECT_THAT(store.find("b", Tokens{1, 2})->next, ElementsAre(4));
  EXPECT_FALSE(store.find("", Tokens{1, 2}));
  EXPECT_FALSE(store.find("ab", Tokens{1, 2}));
}

TEST(OutputStore, ATextEndsWhereItEnds) {
  OutputStore store(1 << 20);
  store.add("a", Tokens{1, 2});
  store.add("a", Tokens{3, 4});
  EXPECT_FALSE(store.find("a", Tokens{1, 2}));
  EXPECT_FALSE(store.find("a", Tokens{2, 3}));
}

TEST(OutputStore, TheOldestGoAndTheBytesHold) {
  constexpr std::size_t kBytes = 64 << 10;
  OutputStore store(kBytes);
  const auto text = [](int number) { return Tokens(100, number); };
  for (int i = 0; i < 200; ++i) {
    store.add(i % 2 == 0 ? "even" : "odd", text(i));
    ASSERT_LE(store.bytes(), kBytes);
    ASSERT_TRUE(store.find(i % 2 == 0 ? "even" : "odd", Tokens{i, i})) << i;
  }
  EXPECT_FALSE(store.find("even", Tokens{0, 0}));
  EXPECT_FALSE(store.find("odd", Tokens{151, 151}));
  EXPECT_TRUE(store.find("even", Tokens{194, 194}));
  store.add("even", Tokens(kBytes, 5));  // larger than half of it
  EXPECT_FALSE(store.find("even", Tokens{5, 5}));
  EXPECT_TRUE(store.find("even", Tokens{198, 198}));
}

// Many salts of a few tokens each take what they take.
TEST(OutputStore, ManySaltsAreBoundedToo) {
  constexpr std::size_t kBytes = 64 << 10;
  OutputStore store(kBytes);
  for (int i = 0; i < 2000; ++i) {
    store.add(std::to_string(i), Tokens{1, 2, i});
    ASSERT_LE(store.bytes(), kBytes);
  }
  EXPECT_THAT(store.find("1999", Tokens{1, 2})->next, ElementsAre(1999));
  EXPECT_FALSE(store.find("0", Tokens{1, 2}));
}

}  // namespace
}  // namespace cortex
