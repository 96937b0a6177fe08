#include "backend/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;  // SplitMix64's increment: 2^64 / golden ratio, odd

std::uint64_t mix(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31);
}

std::uint64_t stream_of(std::uint64_t seed, std::int64_t position) {
  return mix(mix(seed + kGolden) + (static_cast<std::uint64_t>(position) + 1) * kGolden);
}

double gumbel_in_stream(std::uint64_t stream, TokenId token) {
  const std::uint64_t bits = mix(stream + (static_cast<std::uint64_t>(token) + 1) * kGolden);
  // 52 bits and a half: never 0 nor 1.
  const double uniform = (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
  return -std::log(-std::log(uniform));
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

struct Candidate {
  TokenId token;
  double logit;
};

std::vector<TokenLogit> likeliest(std::span<const float> logits, int count) {
  std::vector<TokenLogit> tokens(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) tokens[i] = {static_cast<TokenId>(i), logits[i]};
  const std::size_t kept = std::min(static_cast<std::size_t>(count), tokens.size());
  std::partial_sort(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(kept), tokens.end(), likelier);
  tokens.resize(kept);
  return tokens;
}

void penalise(std::span<float> logits, const RowSampling& sampling) {
  const SamplingParams& params = sampling.params;
  for (const TokenCount& count : sampling.counts) {
    float& logit = logits[static_cast<std::size_t>(count.token)];
    if (count.in_prompt > 0 || count.in_output > 0) {
      logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    if (count.in_output > 0) {
      logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(count.in_output);
    }
  }
}

// The allowed tokens with their adjusted logits, in the order of their ids.
std::vector<Candidate> allowed_candidates(std::span<const float> untouched, const RowSampling& sampling) {
  std::vector<float> logits(untouched.begin(), untouched.end());
  for (const auto& [token, bias] : sampling.logit_bias) logits[static_cast<std::size_t>(token)] += bias;
  penalise(logits, sampling);
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const bool allowed = sampling.allowed.empty() || (sampling.allowed[i / 32] >> (i % 32) & 1u) != 0;
    if (allowed) candidates.push_back({static_cast<TokenId>(i), logits[i]});
  }
  CORTEX_CHECK(!candidates.empty());
  return candidates;
}

void keep_top_k(std::vector<Candidate>& candidates, int top_k) {
  const auto kept = static_cast<std::size_t>(top_k);
  if (top_k == 0 || kept >= candidates.size()) return;
  std::nth_element(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(kept), candidates.end(),
                   likelier);
  candidates.resize(kept);
}

// Sorts no more than it must: most of the probability usually lies in a few tokens.
void keep_top_p(std::vector<Candidate>& candidates, double top_p, double largest) {
  if (top_p >= 1.0) return;
  double total = 0.0;
  for (const Candidate& candidate : candidates) total += std::exp(candidate.logit - largest);
  double reached = 0.0;
  std::size_t sorted = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i == sorted) {
      sorted = std::min(candidates.size(), std::max<std::size_t>(64, 8 * sorted));
      std::partial_sort(candidates.begin() + static_cast<std::ptrdiff_t>(i),
                        candidates.begin() + static_cast<std::ptrdiff_t>(sorted), candidates.end(), likelier);
    }
    reached += std::exp(candidates[i].logit - largest);
    if (reached >= top_p * total) {
      candidates.resize(i + 1);
      return;
    }
  }
}

void keep_min_p(std::vector<Candidate>& candidates, double min_p, double largest) {
  if (min_p <= 0.0) return;
  const double least = largest + std::log(min_p);
  std::erase_if(candidates, [&](const Candidate& candidate) { return candidate.logit < least; });
}

bool is_plain_greedy(const RowSampling& sampling) {
  return sampling.params.temperature == 0.0f && sampling.logit_bias.empty() && sampling.counts.empty() &&
         sampling.allowed.empty();
}

TokenId choose(std::span<const float> logits, const RowSampling& sampling) {
  const SamplingParams& params = sampling.params;
  std::vector<Candidate> candidates = allowed_candidates(logits, sampling);
  const Candidate best = *std::min_element(candidates.begin(), candidates.end(), likelier);
  if (params.temperature == 0.0f) return best.token;

  for (Candidate& candidate : candidates) candidate.logit /= params.temperature;
  const double largest = best.logit / params.temperature;
  keep_top_k(candidates, params.top_k);
  keep_top_p(candidates, params.top_p, largest);
  keep_min_p(candidates, params.min_p, largest);

  const std::uint64_t stream = stream_of(params.seed, sampling.position);
  for (Candidate& candidate : candidates) candidate.logit += gumbel_in_stream(stream, candidate.token);
  return std::min_element(candidates.begin(), candidates.end(), likelier)->token;
}

}  // namespace

bool wants_logits(const WantedRow& wanted) {
  return wanted.token || wanted.top_logprobs > 0 || !wanted.scores.empty() || wanted.logits;
}

bool wants_every_logit(const WantedRow& wanted) {
  return wanted.logits || (wanted.token && !is_plain_greedy(wanted.sampling));
}

LogitSummary summarise(std::span<const float> logits, const WantedRow& wanted) {
  LogitSummary summary;
  summary.finite = all_finite(logits);
  if (!summary.finite || logits.empty()) return summary;
  const auto largest = std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - *largest);
  summary.likeliest = {static_cast<TokenId>(largest - logits.begin()), *largest};
  summary.log_sum_exp = *largest + std::log(sum);
  if (wanted.top_logprobs > 0) summary.top = likeliest(logits, wanted.top_logprobs);
  for (const TokenId token : wanted.scores) summary.scores.push_back(logits[static_cast<std::size_t>(token)]);
  return summary;
}

RowResult sample_row(std::span<const float> logits, std::span<const float> hidden, const WantedRow& wanted) {
  return sample_row(summarise(logits, wanted), logits, hidden, wanted);
}

RowResult sample_row(const LogitSummary& summary, std::span<const float> logits, std::span<const float> hidden,
                     const WantedRow& wanted) {
  RowResult result;
  result.finite = summary.finite && all_finite(hidden);
  if (!result.finite) return result;

  if (wanted.hidden) result.hidden.assign(hidden.begin(), hidden.end());
  if (wanted.logits) result.logits.assign(logits.begin(), logits.end());
  const auto logprob = [&](float logit) { return static_cast<float>(logit - summary.log_sum_exp); };
  for (const auto& [token, logit] : summary.top) result.top_logprobs.push_back({token, logprob(logit)});
  for (const float logit : summary.scores) result.scores.push_back(logprob(logit));
  if (wanted.token) {
    result.token = is_plain_greedy(wanted.sampling) ? summary.likeliest.token : choose(logits, wanted.sampling);
    const bool likeliest = result.token == summary.likeliest.token;
    result.logprob = logprob(likeliest ? summary.likeliest.logit : logits[static_cast<std::size_t>(result.token)]);
  }
  return result;
}

double gumbel_noise(std::uint64_t seed, std::int64_t position, TokenId token) {
  return gumbel_in_stream(stream_of(seed, position), token);
}

}  // namespace cortex
