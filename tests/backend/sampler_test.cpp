#include "backend/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

namespace cortex {
namespace {

std::vector<float> random_logits(std::mt19937& random, int size, float spread = 3.0f) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(static_cast<std::size_t>(size));
  for (float& logit : logits) logit = normal(random);
  return logits;
}

std::vector<double> softmax_of(const std::vector<double>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> probabilities;
  for (const double logit : logits) probabilities.push_back(std::exp(logit - largest));
  const double sum = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  for (double& probability : probabilities) probability /= sum;
  return probabilities;
}

WantedRow token_wanted(float temperature, std::uint64_t seed = 0, std::int64_t position = 0) {
  WantedRow wanted;
  wanted.token = true;
  wanted.sampling.params.temperature = temperature;
  wanted.sampling.params.seed = seed;
  wanted.sampling.position = position;
  return wanted;
}

TokenId token_of(const std::vector<float>& logits, const WantedRow& wanted) {
  return sample_row(logits, {}, wanted).token;
}

// The order that sampler.h documents, step by step over the whole vocabulary: minus infinity is "not any more".
TokenId naive_choice(const std::vector<float>& untouched, const RowSampling& sampling) {
  constexpr double kOut = -std::numeric_limits<double>::infinity();
  const SamplingParams& params = sampling.params;
  std::vector<float> adjusted = untouched;
  for (const auto& [token, bias] : sampling.logit_bias) adjusted[static_cast<std::size_t>(token)] += bias;
  for (const TokenCount& count : sampling.counts) {
    float& logit = adjusted[static_cast<std::size_t>(count.token)];
    if (count.in_prompt + count.in_output > 0) {
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    if (count.in_output > 0) {
      logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(count.in_output);
    }
  }
  std::vector<double> logits(adjusted.begin(), adjusted.end());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!sampling.allowed.empty() && (sampling.allowed[i / 32] & (1u << (i % 32))) == 0) logits[i] = kOut;
  }
  const auto best = [&] {
    return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  if (params.temperature == 0.0f) return best();
  for (double& logit : logits) logit /= params.temperature;

  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (params.top_k > 0) {
    for (std::size_t i = static_cast<std::size_t>(params.top_k); i < order.size(); ++i) logits[order[i]] = kOut;
  }
  if (params.top_p < 1.0f) {
    const std::vector<double> probabilities = softmax_of(logits);
    double before = 0.0;
    for (const std::size_t token : order) {
      if (before >= static_cast<double>(params.top_p)) logits[token] = kOut;
      before += probabilities[token];
    }
  }
  for (double& logit : logits) {
    if (std::exp(logit - largest) < static_cast<double>(params.min_p)) logit = kOut;
  }
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] += gumbel_noise(params.seed, sampling.position, static_cast<TokenId>(i));
  }
  return best();
}

TEST(Sampler, LogprobsComeFromTheUntouchedLogits) {
  std::mt19937 random(1);
  const std::vector<float> logits = random_logits(random, 37);
  const std::vector<double> probabilities = softmax_of({logits.begin(), logits.end()});
  const std::vector<std::pair<TokenId, float>> bias = {{5, 100.0f}};
  const std::vector<TokenId> asked = {0, 36, 5};
  WantedRow wanted = token_wanted(0.7f);
  wanted.sampling.logit_bias = bias;
  wanted.scores = asked;
  wanted.top_logprobs = 4;
  wanted.logits = true;

  const RowResult result = sample_row(logits, {}, wanted);
  EXPECT_TRUE(result.finite);
  EXPECT_EQ(result.token, 5);
  EXPECT_NEAR(result.logprob, std::log(probabilities[5]), 1e-6);
  EXPECT_EQ(result.logits, logits);
  ASSERT_EQ(result.scores.size(), 3u);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    EXPECT_NEAR(result.scores[i], std::log(probabilities[static_cast<std::size_t>(asked[i])]), 1e-6);
  }
  ASSERT_EQ(result.top_logprobs.size(), 4u);
  std::vector<double> sorted = probabilities;
  std::sort(sorted.rbegin(), sorted.rend());
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(result.top_logprobs[i].logprob, std::log(sorted[i]), 1e-6);
}

TEST(Sampler, TopLogprobsOfEqualLogitsComeById) {
  WantedRow wanted;
  wanted.top_logprobs = 9;  // more than there are
  const RowResult result = sample_row(std::vector<float>{1.0f, 2.0f, 2.0f, 1.0f, 2.0f}, {}, wanted);
  std::vector<TokenId> ids;
  for (const TokenLogprob& top : result.top_logprobs) ids.push_back(top.token);
  EXPECT_THAT(ids, testing::ElementsAre(1, 2, 4, 0, 3));
  EXPECT_EQ(result.token, -1);
}

TEST(Sampler, GreedyTakesTheLowestIdOfEqualLogits) {
  EXPECT_EQ(token_of({1.0f, 3.0f, -2.0f, 3.0f, 3.0f}, token_wanted(0.0f)), 1);
  EXPECT_EQ(token_of(std::vector<float>(100, 0.25f), token_wanted(0.0f)), 0);
}

TEST(Sampler, TopKKeepsTheLowestIdsOfEqualLogits) {
  const std::vector<float> logits(64, 1.5f);
  for (int position = 0; position < 200; ++position) {
    WantedRow wanted = token_wanted(1.0f, 7, position);
    wanted.sampling.params.top_k = 3;
    EXPECT_LT(token_of(logits, wanted), 3);
  }
}

// Frequencies against the softmax: the 0.9999 quantile of chi-square with 11 degrees of freedom is 37.4.
TEST(Sampler, FrequenciesOverPositionsAreTheSoftmax) {
  std::mt19937 random(3);
  const std::vector<float> logits = random_logits(random, 12, 1.0f);
  for (const float temperature : {0.7f, 1.0f, 1.8f}) {
    std::vector<double> scaled(logits.begin(), logits.end());
    for (double& logit : scaled) logit /= temperature;
    const std::vector<double> expected = softmax_of(scaled);
    constexpr int kDraws = 60000;
    for (const bool over_seeds : {false, true}) {
      std::vector<int> counts(logits.size());
      for (int i = 0; i < kDraws; ++i) {
        const WantedRow wanted = over_seeds ? token_wanted(temperature, static_cast<std::uint64_t>(i), 17)
                                            : token_wanted(temperature, 42, i);
        ++counts[static_cast<std::size_t>(token_of(logits, wanted))];
      }
      double chi_square = 0.0;
      for (std::size_t i = 0; i < counts.size(); ++i) {
        const double mean = expected[i] * kDraws;
        chi_square += (counts[i] - mean) * (counts[i] - mean) / mean;
      }
      EXPECT_LT(chi_square, 37.4) << "temperature " << temperature << " over seeds " << over_seeds;
    }
  }
}

// Neighbouring positions and seeds must not go together: chi-square of pairs, 15 degrees of freedom, 0.9999: 44.3.
TEST(Sampler, NeighboursAreIndependent) {
  const std::vector<float> logits(4, 0.0f);
  for (const bool over_seeds : {false, true}) {
    std::vector<int> counts(16);
    constexpr int kDraws = 40000;
    for (int i = 0; i < kDraws; ++i) {
      const auto draw = [&](int at) {
        return token_of(logits,
                        over_seeds ? token_wanted(1.0f, static_cast<std::uint64_t>(at), 5) : token_wanted(1.0f, 5, at));
      };
      const int pair = 4 * draw(2 * i) + draw(2 * i + 1);
      ++counts[static_cast<std::size_t>(pair)];
    }
    double chi_square = 0.0;
    for (const int count : counts) chi_square += (count - kDraws / 16.0) * (count - kDraws / 16.0) / (kDraws / 16.0);
    EXPECT_LT(chi_square, 44.3) << "over seeds " << over_seeds;
  }
}

TEST(Sampler, NoiseDependsOnSeedPositionAndTokenOnly) {
  EXPECT_EQ(gumbel_noise(1, 2, 3), gumbel_noise(1, 2, 3));
  std::map<double, int> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (std::int64_t position = 0; position < 20; ++position) {
      for (TokenId token = 0; token < 20; ++token) ++seen[gumbel_noise(seed, position, token)];
    }
  }
  EXPECT_EQ(seen.size(), 8000u);
  double sum = 0.0;
  for (const auto& [noise, count] : seen) sum += noise;
  EXPECT_NEAR(sum / 8000, 0.5772, 0.05);  // the mean of a Gumbel variable is Euler's constant
}

TEST(Sampler, FiltersAgreeWithTheNaiveTwin) {
  std::mt19937 random(11);
  const auto uniform = [&](float low, float high) { return std::uniform_real_distribution<float>(low, high)(random); };
  const auto chance = [&](float probability) { return uniform(0.0f, 1.0f) < probability; };
  for (int round = 0; round < 3000; ++round) {
    const int size = round % 10 == 0 ? 1000 : std::uniform_int_distribution<int>(1, 130)(random);
    const auto any_token = [&] { return std::uniform_int_distribution<TokenId>(0, size - 1)(random); };
    std::vector<float> logits = random_logits(random, size, uniform(0.1f, 4.0f));
    if (chance(0.3f)) {
      for (float& logit : logits) logit = std::round(logit);  // many ties
    }
    WantedRow wanted = token_wanted(chance(0.1f) ? 0.0f : uniform(0.2f, 2.0f), random(), round);
    SamplingParams& params = wanted.sampling.params;
    if (chance(0.5f)) params.top_k = std::uniform_int_distribution<int>(1, size + 3)(random);
    if (chance(0.5f)) params.top_p = uniform(0.05f, 1.0f);
    if (chance(0.5f)) params.min_p = uniform(0.0f, 0.5f);
    std::vector<std::pair<TokenId, float>> bias;
    if (chance(0.4f)) bias = {{any_token(), uniform(-5.0f, 5.0f)}, {any_token(), uniform(-5.0f, 5.0f)}};
    std::vector<TokenCount> counts;
    if (chance(0.4f)) {
      params.repetition_penalty = uniform(0.8f, 1.5f);
      params.presence_penalty = uniform(-1.0f, 1.0f);
      params.frequency_penalty = uniform(-1.0f, 1.0f);
      for (TokenId token = 0; token < size; token += 3) counts.push_back({token, token % 2, token % 5});
    }
    std::vector<std::uint32_t> allowed;
    if (chance(0.4f)) {
      for (int word = 0; word < (size + 31) / 32; ++word) allowed.push_back(static_cast<std::uint32_t>(random()));
      const auto token = static_cast<std::uint32_t>(any_token());
      allowed[token / 32] |= 1u << (token % 32);
    }
    wanted.sampling.logit_bias = bias;
    wanted.sampling.counts = counts;
    wanted.sampling.allowed = allowed;
    ASSERT_EQ(token_of(logits, wanted), naive_choice(logits, wanted.sampling))
        << "round " << round << " size " << size << " temperature " << params.temperature << " k " << params.top_k
        << " p " << params.top_p << " min_p " << params.min_p;
  }
}

// As many as a model has: most can't win, whatever their noise.
TEST(Sampler, WholeVocabulariesAgreeWithTheNaiveTwin) {
  std::mt19937 random(13);
  constexpr int kVocabulary = 50'000;
  for (int round = 0; round < 60; ++round) {
    std::vector<float> logits = random_logits(random, kVocabulary, 0.5f + static_cast<float>(round % 8));
    WantedRow wanted = token_wanted(0.1f + 0.05f * static_cast<float>(round % 30), random(), round);
    if (round % 3 == 1) wanted.sampling.params.top_p = 0.95f;
    if (round % 5 == 2) wanted.sampling.params.top_k = 40;
    if (round % 10 == 9) wanted.sampling.params.temperature = 0.0f;
    // From almost all tokens down to a few.
    std::vector<std::uint32_t> allowed;
    const auto part = static_cast<unsigned>(round % 4);
    for (int word = 0; part > 0 && word < (kVocabulary + 31) / 32; ++word) {
      std::uint32_t bits = static_cast<std::uint32_t>(random());
      for (unsigned i = 1; i < part; ++i) bits &= static_cast<std::uint32_t>(random());
      allowed.push_back(round % 8 == 1 ? ~bits : bits);
    }
    wanted.sampling.allowed = allowed;
    ASSERT_EQ(token_of(logits, wanted), naive_choice(logits, wanted.sampling)) << "round " << round;
  }
}

TEST(Sampler, ResultDependsOnNothingButTheRow) {
  std::mt19937 random(5);
  const std::vector<float> logits = random_logits(random, 200);
  const WantedRow wanted = token_wanted(1.3f, 99, 1234);
  const TokenId first = token_of(logits, wanted);
  for (int i = 0; i < 5; ++i) {
    token_of(logits, token_wanted(1.0f, 3, i));
    EXPECT_EQ(token_of(logits, wanted), first);
  }
}

TEST(Sampler, BiasOfAHundredDecides) {
  std::mt19937 random(6);
  const std::vector<float> logits = random_logits(random, 50);
  const auto likeliest = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  for (int position = 0; position < 300; ++position) {
    const std::vector<std::pair<TokenId, float>> forced = {{31, 100.0f}};
    WantedRow wanted = token_wanted(1.0f, 1, position);
    wanted.sampling.logit_bias = forced;
    EXPECT_EQ(token_of(logits, wanted), 31);
    const std::vector<std::pair<TokenId, float>> banned = {{likeliest, -100.0f}};
    wanted.sampling.logit_bias = banned;
    EXPECT_NE(token_of(logits, wanted), likeliest);
  }
}

TEST(Sampler, AMaskAndABiasDecideTogether) {
  const std::vector<float> logits = {1.0f, 5.0f, 2.0f, 3.0f};
  const std::vector<std::uint32_t> allowed = {0b1101};
  const std::vector<std::pair<TokenId, float>> bias = {{1, 50.0f}, {2, 1.5f}};
  WantedRow wanted = token_wanted(0.0f);
  wanted.sampling.allowed = allowed;
  EXPECT_EQ(token_of(logits, wanted), 3);
  wanted.sampling.logit_bias = bias;
  const RowResult result = sample_row(logits, {}, wanted);
  EXPECT_EQ(result.token, 2);
  EXPECT_NEAR(result.logprob, std::log(softmax_of({1.0, 5.0, 2.0, 3.0})[2]), 1e-6);
}

TEST(Sampler, MaskAllowsNothingElse) {
  std::mt19937 random(8);
  const std::vector<float> logits = random_logits(random, 70);
  const std::vector<std::uint32_t> allowed = {0, 1u << 5, 1u << 1};  // 37 and 65
  std::map<TokenId, int> seen;
  for (int position = 0; position < 2000; ++position) {
    WantedRow wanted = token_wanted(3.0f, 1, position);
    wanted.sampling.allowed = allowed;
    ++seen[token_of(logits, wanted)];
  }
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_GT(seen[37], 0);
  EXPECT_GT(seen[65], 0);
}

TEST(Sampler, PenaltiesCountAsDocumented) {
  const std::vector<float> logits = {2.0f, 1.9f, -1.0f};
  WantedRow wanted = token_wanted(0.0f);
  SamplingParams& params = wanted.sampling.params;
  const auto choose_with = [&](std::vector<TokenCount> counts) {
    wanted.sampling.counts = counts;
    return token_of(logits, wanted);
  };
  params.repetition_penalty = 1.1f;  // 2.0 / 1.1 < 1.9
  EXPECT_EQ(choose_with({{0, 1, 0}}), 1);
  EXPECT_EQ(choose_with({{0, 0, 1}}), 1);
  EXPECT_EQ(choose_with({{0, 1, 0}, {1, 1, 0}}), 0);
  params.repetition_penalty = 1.0f;
  params.presence_penalty = 0.2f;
  EXPECT_EQ(choose_with({{0, 5, 0}}), 0);  // presence is about the output only
  EXPECT_EQ(choose_with({{0, 0, 1}}), 1);
  params.presence_penalty = 0.0f;
  params.frequency_penalty = 0.06f;
  EXPECT_EQ(choose_with({{0, 0, 1}}), 0);
  EXPECT_EQ(choose_with({{0, 0, 2}}), 1);
}

TEST(Sampler, ValuesThatAreNotFiniteAreSaid) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits(40, 1.0f);
    logits[33] = bad;
    const RowResult result = sample_row(logits, {}, token_wanted(1.0f));
    EXPECT_FALSE(result.finite);
    EXPECT_EQ(result.token, -1);
    WantedRow hidden;
    hidden.hidden = true;
    EXPECT_FALSE(sample_row({}, logits, hidden).finite);
  }
}

TEST(Sampler, HiddenNeedsNoLogits) {
  WantedRow wanted;
  wanted.hidden = true;
  EXPECT_FALSE(wants_logits(wanted));
  const std::vector<float> hidden = {1.0f, 2.0f};
  const RowResult result = sample_row({}, hidden, wanted);
  EXPECT_TRUE(result.finite);
  EXPECT_EQ(result.hidden, hidden);
}

}  // namespace
}  // namespace cortex
