#include "backend/cpu/language_head.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backend/cpu/random_source.h"
#include "backend/cpu/weight_loader.h"

namespace cortex {
namespace {

constexpr int kHidden = 64, kMostRows = 64;

class LanguageHeadTest : public testing::TestWithParam<int> {
 protected:
  LanguageHeadTest() {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    in_.reshape(kMostRows, kHidden, projection_.padded_columns(), projection_.products());
    for (int row = 0; row < kMostRows; ++row) {
      for (int i = 0; i < kHidden; ++i) in_.row(row)[i] = 0.1f * normal(random);
      in_.pack(row);
    }
  }

  // Every logit of the first rows, as the sampler reads them.
  std::vector<std::vector<float>> logits(int rows) {
    ThreadTeam team(1);
    const auto stride = static_cast<std::size_t>(projection_.outputs());
    std::vector<float> all(static_cast<std::size_t>(rows) * stride);
    projection_.run(team, in_.view(), rows, LinearEnd::store, all.data(), stride);
    std::vector<std::vector<float>> each;
    for (auto row = all.begin(); row != all.end(); row += static_cast<std::ptrdiff_t>(stride)) {
      each.emplace_back(row, row + vocabulary_);
    }
    return each;
  }

  std::vector<RowResult> run(const std::vector<WantedRow>& wanted, int threads) {
    ThreadTeam team(threads);
    std::vector<RowResult> results(wanted.size());
    head_.run(team, projection_, vocabulary_, in_, wanted, results);
    return results;
  }

  // What rows may want, by turns; with `whole`, also what needs every logit.
  std::vector<WantedRow> wanted_rows(int rows, bool whole) {
    std::vector<WantedRow> wanted(static_cast<std::size_t>(rows));
    for (int row = 0; row < rows; ++row) {
      WantedRow& each = wanted[static_cast<std::size_t>(row)];
      each.sampling.params = {.temperature = whole && row % 5 == 1 ? 0.8f : 0.0f, .seed = 7};
      each.sampling.position = row;
      each.token = row % 5 != 4;
      each.hidden = row % 5 == 4;
      each.top_logprobs = row % 3 == 0 ? 5 : 0;
      if (row % 2 == 1) each.scores = ids_;
      if (row % 4 == 3) each.sampling.logit_bias = biases_;
      if (row % 8 == 6) each.sampling.logit_bias = bans_;
      if (row % 3 == 2) each.sampling.allowed = masks_[static_cast<std::size_t>(row) / 3 % masks_.size()];
      each.logits = whole && row % 7 == 2;
    }
    return wanted;
  }

  const int vocabulary_ = GetParam();
  const std::vector<TokenId> ids_ = {vocabulary_ - 1, 0, vocabulary_ / 2, 0};
  const std::vector<std::pair<TokenId, float>> biases_ = {
      {vocabulary_ / 3, 0.5f}, {vocabulary_ - 1, 0.75f}, {vocabulary_ / 3, 0.25f}, {0, -1.0f}};
  const std::vector<std::pair<TokenId, float>> bans_ = [this] {
    std::vector<std::pair<TokenId, float>> all;
    for (TokenId token = 1; token < vocabulary_; token += 2) all.emplace_back(token, -100.0f);
    return all;
  }();
  // One token, the first or the last; a few; half of them; all but a few.
  const std::vector<std::vector<std::uint32_t>> masks_ = [this] {
    std::mt19937 random(8);
    const auto words = static_cast<std::size_t>(vocabulary_ + 31) / 32;
    std::vector<std::vector<std::uint32_t>> masks(6, std::vector<std::uint32_t>(words));
    const auto allow = [](std::vector<std::uint32_t>& mask, TokenId token) {
      mask[static_cast<std::size_t>(token) / 32] |= 1u << (token % 32);
    };
    for (TokenId token = 0; token < vocabulary_; ++token) {
      if (random() % 100 == 0) allow(masks[2], token);
      if (random() % 2 == 0) allow(masks[3], token);
      if (random() % 100 != 0) allow(masks[4], token);
      if (token >= vocabulary_ / 2) allow(masks[5], token);
    }
    for (const std::size_t mask : {0, 2, 3}) allow(masks[mask], 0);
    for (const std::size_t mask : {1, 2, 4}) allow(masks[mask], vocabulary_ - 1);
    return masks;
  }();
  RandomSource source_{6};
  const Weight weight_ = source_.blocks(DType::q4_1, vocabulary_, kHidden);
  WeightArena arena_;
  const LoadProgress progress_;
  WeightLoader loader_{arena_, FloatPacking::bf16, 1, progress_};
  const Projection projection_{loader_, Arithmetic::fast, {LinearView(weight_)}};
  InputRows in_;
  LanguageHead head_;
};

INSTANTIATE_TEST_SUITE_P(Vocabularies, LanguageHeadTest, testing::Values(1, 7, 16, 1000, 1024, 1025, 2048, 5003));

void expect_same(const RowResult& a, const RowResult& b) {
  EXPECT_EQ(a.finite, b.finite);
  EXPECT_EQ(a.token, b.token);
  EXPECT_NEAR(a.logprob, b.logprob, 1e-5);
  ASSERT_EQ(a.top_logprobs.size(), b.top_logprobs.size());
  for (std::size_t i = 0; i < a.top_logprobs.size(); ++i) {
    EXPECT_EQ(a.top_logprobs[i].token, b.top_logprobs[i].token) << i;
    EXPECT_NEAR(a.top_logprobs[i].logprob, b.top_logprobs[i].logprob, 1e-5) << i;
  }
  ASSERT_EQ(a.scores.size(), b.scores.size());
  for (std::size_t i = 0; i < a.scores.size(); ++i) EXPECT_NEAR(a.scores[i], b.scores[i], 1e-5) << i;
  EXPECT_EQ(a.logits, b.logits);
  EXPECT_EQ(a.hidden, b.hidden);
}

TEST_P(LanguageHeadTest, GivesWhatTheSamplerFindsInEveryLogit) {
  const std::vector<std::vector<float>> all = logits(kMostRows);
  for (const bool whole : {false, true}) {
    for (const int rows : {1, 2, 5, 16, 33, kMostRows}) {
      const std::vector<WantedRow> wanted = wanted_rows(rows, whole);
      const std::vector<RowResult> results = run(wanted, 2);
      for (std::size_t row = 0; row < wanted.size(); ++row) {
        SCOPED_TRACE(testing::Message() << "row " << row << " of " << rows);
        std::span<const float> hidden;
        if (wanted[row].hidden) hidden = {in_.row(static_cast<int>(row)), kHidden};
        const bool needed = wants_logits(wanted[row]);
        expect_same(results[row], sample_row(needed ? all[row] : std::span<const float>(), hidden, wanted[row]));
      }
    }
  }
}

// Alone or among others, some of which need every logit, and on any threads.
TEST_P(LanguageHeadTest, RowIsTheSameBitsWhateverElseIsWanted) {
  const std::vector<WantedRow> wanted = wanted_rows(kMostRows, false);
  const std::vector<RowResult> all = run(wanted, 1);
  for (const int threads : {1, 2, 3}) {
    for (const int rows : {1, 4, 17, kMostRows}) {
      std::vector<WantedRow> some(wanted.begin(), wanted.begin() + rows);
      some.back().logits = rows > 1;
      const std::vector<RowResult> results = run(some, threads);
      for (std::size_t row = 0; row < some.size(); ++row) {
        EXPECT_EQ(results[row].token, all[row].token);
        EXPECT_EQ(results[row].logprob, all[row].logprob) << row << " of " << rows << " on " << threads;
        EXPECT_EQ(results[row].scores, all[row].scores) << row << " of " << rows << " on " << threads;
      }
    }
  }
}

TEST_P(LanguageHeadTest, OneLogitThatIsNotFiniteSpoilsItsRowAlone) {
  in_.row(1)[3] = std::numeric_limits<float>::quiet_NaN();
  in_.pack(1);
  const std::vector<WantedRow> wanted = wanted_rows(3, false);
  const std::vector<RowResult> results = run(wanted, 2);
  EXPECT_TRUE(results[0].finite);
  EXPECT_FALSE(results[1].finite);
  EXPECT_TRUE(results[2].finite);
}

}  // namespace
}  // namespace cortex
