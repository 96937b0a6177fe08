#include "engine/speculation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/acceptance.h"

namespace cortex {
namespace {

using testing::ElementsAre;

using Odds = std::vector<std::vector<double>>;

constexpr double kNoLimit = 1e9;

std::vector<double> falling(double each, int count) {
  std::vector<double> odds;
  for (int i = 0; i < count; ++i) odds.push_back((odds.empty() ? 1.0 : odds.back()) * each);
  return odds;
}

TEST(DraftLengths, FreeRowsTakeAllAndDearRowsNone) {
  const Odds odds = {falling(0.5, 8)};
  EXPECT_THAT(draft_lengths(odds, 100, kNoLimit, [](int) { return 2.0; }), ElementsAre(8));
  EXPECT_THAT(draft_lengths(odds, 100, kNoLimit, [](int n) { return 2.0 * (1 + n); }), ElementsAre(0));
  EXPECT_THAT(draft_lengths(odds, 5, kNoLimit, [](int) { return 2.0; }), ElementsAre(5));
  EXPECT_THAT(draft_lengths(odds, 0, kNoLimit, [](int) { return 2.0; }), ElementsAre(0));
  EXPECT_THAT(draft_lengths(odds, -3, kNoLimit, [](int) { return 2.0; }), ElementsAre(0));
}

TEST(DraftLengths, TheMostTokensAMillisecond) {
  // 2 ms and 0.5 a row: with odds of 0.9 each, tokens by time are
  // 1/2, 1.9/2.5, 2.71/3, 3.44/3.5, 4.1/4, 4.69/4.5, 5.2/5.
  const Odds odds = {falling(0.9, 20)};
  const auto lengths = draft_lengths(odds, 100, kNoLimit, [](int n) { return 2.0 + 0.5 * n; });
  double best = 0.0, tokens = 1.0;
  int expected = 0;
  for (int n = 0; n <= 20; ++n) {
    if (n > 0) tokens += odds[0][static_cast<std::size_t>(n) - 1];
    if (tokens / (2.0 + 0.5 * n) > best) {
      best = tokens / (2.0 + 0.5 * n);
      expected = n;
    }
  }
  EXPECT_THAT(lengths, ElementsAre(expected));
  EXPECT_GT(expected, 4);
}

TEST(DraftLengths, AStepInTheTimesIsNoEnd) {
  // The second row is dear, those up to the eighth come with it.
  const Odds odds = {falling(0.95, 16)};
  const auto ms = [](int n) { return n == 0 ? 2.0 : n < 8 ? 4.0 : 40.0; };
  EXPECT_THAT(draft_lengths(odds, 100, kNoLimit, ms), ElementsAre(7));
  EXPECT_THAT(draft_lengths(Odds{falling(0.5, 16)}, 100, kNoLimit, ms), ElementsAre(0));
}

TEST(DraftLengths, RowsGoToTheLikeliest) {
  const Odds odds = {falling(0.3, 8), falling(0.95, 8), {}, falling(0.6, 8)};
  const auto lengths = draft_lengths(odds, 6, kNoLimit, [](int) { return 2.0; });
  EXPECT_THAT(lengths, ElementsAre(0, 6, 0, 0));
  EXPECT_THAT(draft_lengths(odds, 12, kNoLimit, [](int) { return 2.0; }), ElementsAre(1, 8, 0, 3));
}

TEST(DraftLengths, UnderLoadNoneRides) {
  // Rows cost half a millisecond each beyond the first two.
  const auto ms = [](int rows) { return 2.0 + 0.5 * std::max(rows - 2, 0); };
  const std::vector<double> likely = falling(0.45, 4);
  EXPECT_THAT(draft_lengths(Odds{likely}, 100, kNoLimit, [&](int n) { return ms(1 + n); }), ElementsAre(1));
  const Odds many(16, likely);
  EXPECT_EQ(draft_lengths(many, 100, kNoLimit, [&](int n) { return ms(16 + n); }), std::vector<int>(16));
}

TEST(DraftLengths, KeepToTheMillisecondsAndToWhatIsKnown) {
  const Odds odds = {falling(0.99, 20)};
  EXPECT_THAT(draft_lengths(odds, 100, 3.0, [](int n) { return 2.0 + 0.1 * n; }), ElementsAre(10));
  EXPECT_THAT(draft_lengths(odds, 100, 1.0, [](int n) { return 2.0 + 0.1 * n; }), ElementsAre(0));
  EXPECT_THAT(draft_lengths(odds, 100, kNoLimit, [](int) { return 0.0; }), ElementsAre(0));
}

TEST(DraftLengths, LittleIsNoGain) {
  EXPECT_THAT(draft_lengths(Odds{falling(0.02, 1)}, 100, kNoLimit, [](int) { return 2.0; }), ElementsAre(0));
}

// Times by rows as backend/cpu has them for a small model.
double measured_ms(int rows) {
  if (rows <= 4) return 2.1 + 0.25 * (rows - 1);
  return 2.85 + 0.85 * (rows - 4);
}

// A sequence whose drafts are each right with some odds, which the controller has to find out. Its tokens a millisecond
// by those without drafts.
struct Simulated {
  explicit Simulated(unsigned seed) : random(seed) {}

  double gain(double odds, int matched, int tokens) {
    double ms = 0.0;
    int said = 0;
    while (said < tokens) {
      Draft draft{std::vector<TokenId>(16, 1), DraftSource::context, matched};
      const auto lengths =
          draft_lengths(Odds{own.odds(draft, all)}, 100, kNoLimit, [](int n) { return measured_ms(1 + n); });
      std::vector<TokenId> sampled;
      do {
        sampled.push_back(std::uniform_real_distribution(0.0, 1.0)(random) < odds ? 1 : 2);
      } while (sampled.back() == 1 && static_cast<int>(sampled.size()) <= lengths[0]);
      ms += measured_ms(1 + lengths[0]);
      said += static_cast<int>(sampled.size());
      drafted += lengths[0];
      own.judge(draft, sampled);
      all.judge(draft, sampled);
    }
    return said / ms * measured_ms(1);
  }

  std::mt19937 random;
  Acceptance own{kKeptOfSequence}, all{kKeptOfAll};
  int drafted = 0;
};

TEST(Speculation, GoodDraftsGainAndBadOnesCostNothing) {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    EXPECT_GT(Simulated(seed).gain(0.98, 40, 400), 2.2);
    EXPECT_GT(Simulated(seed).gain(0.8, 10, 400), 1.3);
    EXPECT_GT(Simulated(seed).gain(0.3, 3, 400), 0.95);
    EXPECT_GT(Simulated(seed).gain(0.0, 40, 400), 0.97);
    EXPECT_GT(Simulated(seed).gain(0.0, 2, 400), 0.97);
  }
}

TEST(Speculation, ARunOfMissesEndsItAndALongMatchBeginsItAgain) {
  Simulated simulated(3);
  simulated.gain(0.0, 3, 100);
  simulated.drafted = 0;
  simulated.gain(0.0, 3, 100);
  EXPECT_EQ(simulated.drafted, 0);
  // A longer match than those that were wrong.
  EXPECT_GT(simulated.gain(0.98, 40, 300), 2.0);
  // Shorter ones again, which are right now: what they would have said was judged all the while.
  EXPECT_GT(simulated.gain(0.95, 3, 400), 1.5);
}

TEST(Speculation, WhatAllHaveLearntCountsForANewSequence) {
  Simulated simulated(4);
  simulated.gain(0.0, 40, 200);
  const Acceptance fresh(kKeptOfSequence);
  const Draft draft{{1, 1, 1, 1}, DraftSource::context, 40};
  EXPECT_LT(fresh.odds(draft, simulated.all)[0], 0.1);
  EXPECT_GT(fresh.odds(draft, Acceptance(kKeptOfAll))[0], 0.8);
  EXPECT_GT(fresh.odds({{1}, DraftSource::outputs, 40}, simulated.all)[0], 0.8);  // another source
}

TEST(Acceptance, OddsFallAlongTheDraft) {
  Acceptance all(kKeptOfAll), own(kKeptOfSequence);
  std::mt19937 random(6);
  for (int i = 0; i < 500; ++i) {
    const Draft draft{std::vector<TokenId>(random() % 40, 1), static_cast<DraftSource>(random() % kDraftSources),
                      static_cast<int>(random() % 70)};
    const std::vector<double> odds = own.odds(draft, all);
    ASSERT_EQ(odds.size(), draft.tokens.size());
    for (std::size_t j = 0; j < odds.size(); ++j) {
      ASSERT_GT(odds[j], 0.0);
      ASSERT_LE(odds[j], j == 0 ? 1.0 : odds[j - 1]);
    }
    std::vector<TokenId> sampled(1 + random() % 5, 1);
    if (random() % 2 == 0) sampled.back() = 2;
    own.judge(draft, sampled);
    all.judge(draft, sampled);
  }
}

TEST(Acceptance, OnlyWhatWasReachedIsJudged) {
  Acceptance own(kKeptOfSequence);
  const Acceptance all(kKeptOfAll);
  const Draft draft{{1, 2, 3}, DraftSource::context, 3};  // lengths 3 and 4 are one class, 5 another
  const double before = own.odds({{1}, DraftSource::context, 5}, all)[0];
  own.judge(draft, std::vector<TokenId>{1, 9, 3});  // the second is wrong, the third was not reached
  EXPECT_EQ(own.odds({{1}, DraftSource::context, 5}, all)[0], before);
  own.judge(draft, std::vector<TokenId>{1, 2, 3});
  EXPECT_GT(own.odds({{1}, DraftSource::context, 5}, all)[0], before);
}

}  // namespace
}  // namespace cortex
