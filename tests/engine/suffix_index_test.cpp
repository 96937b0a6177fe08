#include "engine/suffix_index.h"

#include <gtest/gtest.h>

#include <random>

namespace cortex {
namespace {

using Tokens = std::vector<TokenId>;

// The longest match, of equally long ones the latest, by looking at every place.
std::optional<SuffixMatch> plain_find(const Tokens& text, const Tokens& context) {
  SuffixMatch best;
  for (std::size_t place = 1; place < text.size(); ++place) {
    const int matched = matched_tokens(text, place, context);
    if (text[place] != kNoToken && matched >= best.matched) best = {place, matched};
  }
  if (best.matched < static_cast<int>(SuffixIndex::kShortest)) return std::nullopt;
  return best;
}

TEST(SuffixIndex, MatchesGoBackToWhereTheTextsDiffer) {
  const Tokens text = {1, 2, 3, 4, 5};
  EXPECT_EQ(matched_tokens(text, 4, Tokens{9, 3, 4}), 2);
  EXPECT_EQ(matched_tokens(text, 2, Tokens{7, 1, 2}), 2);
  EXPECT_EQ(matched_tokens(text, 0, Tokens{5}), 0);
  EXPECT_EQ(matched_tokens(text, 5, Tokens{}), 0);
  EXPECT_EQ(matched_tokens(Tokens(100, 4), 90, Tokens(100, 4)), kLongestMatch);
}

TEST(SuffixIndex, FindsWhatLookingEverywhereFinds) {
  std::mt19937 random(4);
  for (const unsigned kinds : {2u, 3u, 8u, 40u}) {
    Tokens text, other;
    SuffixIndex index, of_other;
    for (int i = 0; i < 60; ++i) other.push_back(static_cast<TokenId>(random() % kinds));
    of_other.read(other, other.size());
    while (text.size() < 60) {
      for (unsigned i = random() % 3; i > 0; --i) text.push_back(static_cast<TokenId>(random() % kinds));
      index.read(text, text.size());
      for (const auto& [found, expected] : {std::pair(index.find(text, text), plain_find(text, text)),
                                            std::pair(of_other.find(other, text), plain_find(other, text))}) {
        ASSERT_EQ(found.has_value(), expected.has_value());
        if (!found) continue;
        ASSERT_EQ(found->matched, expected->matched);
        ASSERT_EQ(found->next, expected->next);
      }
    }
  }
}

TEST(SuffixIndex, ReadsInPieces) {
  const Tokens text = {1, 2, 3, 4, 1, 2, 5, 1, 2};
  SuffixIndex index;
  index.read(text, 4);
  ASSERT_TRUE(index.find(text, text));
  EXPECT_EQ(index.find(text, text)->next, 2u);
  index.read(text, 3);
  EXPECT_EQ(index.find(text, text)->next, 6u);
  index.read(text, 100);
  EXPECT_EQ(index.find(text, text)->next, 6u);  // the last place has nothing behind it
}

TEST(SuffixIndex, NothingIsFoundInNothing) {
  SuffixIndex index;
  EXPECT_FALSE(index.find({}, Tokens{1, 2}));
  index.read({}, 10);
  EXPECT_FALSE(index.find({}, Tokens{1, 2}));
  index.read(Tokens{1}, 10);
  EXPECT_FALSE(index.find(Tokens{1}, Tokens{1}));
}

TEST(SuffixIndex, ATextsEndIsNoPlace) {
  const Tokens text = {1, 2, kNoToken, 1, 2, 3, kNoToken};
  SuffixIndex index;
  index.read(text, text.size());
  EXPECT_EQ(index.find(text, Tokens{1, 2})->next, 5u);
  EXPECT_FALSE(index.find(text, Tokens{2, 3}));
  EXPECT_EQ(index.find(text, Tokens{2, 1, 2})->matched, 2);  // what stands before another text is not before this one
}

// A long run of one token has a place everywhere: only so many are looked at.
TEST(SuffixIndex, LooksAtSoManyPlacesOnly) {
  Tokens text(20000, 7);
  text.push_back(8);
  text.insert(text.end(), {7, 7});
  SuffixIndex index;
  index.read(text, text.size());
  const auto match = index.find(text, text);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->matched, 2);
  EXPECT_EQ(match->next, 20000u);
}

}  // namespace
}  // namespace cortex
