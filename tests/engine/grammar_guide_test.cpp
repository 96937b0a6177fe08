#include "engine/grammar_guide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fakes/token_texts.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr TokenId kEnd = 256, kTurn = 257;

const TokenTrie& trie() {
  static const TokenTrie made = [] {
    const auto texts = byte_texts({"<end>", "<turn>"}, {kEnd, kTurn});
    return TokenTrie(texts->offsets, {texts->bytes.data(), texts->bytes.size()}, texts->special, texts->ends);
  }();
  return made;
}

class GrammarGuideTest : public testing::Test {
 protected:
  GrammarGuide guide(const std::string& regex, std::vector<TokenId> ends, int vocabulary = 300) {
    return {CompiledGrammar::of_regex(trie(), regex), vocabulary, std::move(ends), costs_};
  }
  static std::vector<TokenId> allowed(GrammarGuide* guide) {
    std::vector<std::uint32_t> mask;
    guide->allow(&mask);
    std::vector<TokenId> ids;
    for (std::size_t id = 0; id < mask.size() * 32; ++id) {
      if ((mask[id / 32] >> (id % 32) & 1) != 0) ids.push_back(static_cast<TokenId>(id));
    }
    return ids;
  }

  const std::shared_ptr<MaskCosts> costs_ = std::make_shared<MaskCosts>();
};

TEST_F(GrammarGuideTest, EndsWithAnyEndWhereItMay) {
  GrammarGuide tested = guide("ab?", {kEnd, kTurn, 290, 290, 4000, -1});
  EXPECT_THAT(allowed(&tested), ElementsAre('a'));
  EXPECT_FALSE(tested.push(kEnd));
  EXPECT_FALSE(tested.push(290));
  EXPECT_FALSE(tested.push(4000));
  ASSERT_TRUE(tested.push('a'));
  EXPECT_THAT(allowed(&tested), ElementsAre('b', kEnd, kTurn, 290));
  ASSERT_TRUE(tested.push(290));
  EXPECT_FALSE(tested.push('b'));
  EXPECT_FALSE(tested.push(kEnd));
  EXPECT_THAT(tested.forced(5), IsEmpty());
  EXPECT_EQ(costs_->masks, 2u);
  EXPECT_GT(costs_->ms, 0.0);
}

TEST_F(GrammarGuideTest, TakesBackTheEndToo) {
  GrammarGuide tested = guide("abc?", {kEnd, kTurn});
  for (const TokenId token : {TokenId{'a'}, TokenId{'b'}, kEnd}) ASSERT_TRUE(tested.push(token));
  tested.pop(1);
  EXPECT_THAT(allowed(&tested), ElementsAre('c', kEnd, kTurn));
  ASSERT_TRUE(tested.push(kEnd));
  tested.pop(3);
  EXPECT_THAT(allowed(&tested), ElementsAre('a'));
  EXPECT_THAT(tested.forced(9), ElementsAre('a', 'b'));
  EXPECT_THAT(tested.forced(1), ElementsAre('a'));
  EXPECT_THAT(tested.forced(0), IsEmpty());
}

TEST_F(GrammarGuideTest, AStopIdDoesNotCutTheReplyShort) {
  // A line break is a stop id of the request, and text to the grammar.
  GrammarGuide tested = guide("a[\\nb]c", {kEnd, '\n'});
  ASSERT_TRUE(tested.push('a'));
  EXPECT_THAT(allowed(&tested), ElementsAre('b'));
  // Where nothing else may come, it may.
  GrammarGuide alone = guide("a\\nc", {kEnd, '\n'});
  ASSERT_TRUE(alone.push('a'));
  EXPECT_THAT(allowed(&alone), ElementsAre('\n'));
}

TEST_F(GrammarGuideTest, TheModelsVocabularyCounts) {
  GrammarGuide larger = guide("(?s:.)", {kEnd}, 1000);
  const auto ids = allowed(&larger);
  EXPECT_FALSE(ids.empty());
  EXPECT_LT(ids.back(), 256);
  GrammarGuide smaller = guide("[a-z]", {kEnd}, 99);
  EXPECT_THAT(allowed(&smaller), ElementsAre('a', 'b'));
  EXPECT_FALSE(smaller.push('c'));
}

TEST_F(GrammarGuideTest, NoTokenAtAllIsAnError) {
  const auto message = [](GrammarGuide tested, const std::vector<TokenId>& tokens) {
    for (const TokenId token : tokens) EXPECT_TRUE(tested.push(token));
    std::vector<std::uint32_t> mask;
    try {
      tested.allow(&mask);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_grammar);
      return error.message();
    }
    return std::string("no error");
  };
  EXPECT_EQ(message(guide("a", {}), {'a'}), "the reply is complete, but the model has no token to end it with");
  EXPECT_EQ(message(guide("z", {kEnd}, 100), {}), "the model has no token with which the reply could go on");
  EXPECT_EQ(message(guide("a", {kEnd}), {'a'}), "no error");
}

}  // namespace
}  // namespace cortex
