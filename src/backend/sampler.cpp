#include "backend/sampler.h"

#include <algorithm>
#include <bit>
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

// 52 of them.
std::uint64_t uniform_bits(std::uint64_t stream, TokenId token) {
  return mix(stream + (static_cast<std::uint64_t>(token) + 1) * kGolden) >> 12;
}

double gumbel_in_stream(std::uint64_t stream, TokenId token) {
  // 52 bits and a half: never 0 nor 1.
  const double uniform = (static_cast<double>(uniform_bits(stream, token)) + 0.5) * 0x1p-52;
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

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool is_allowed(std::span<const std::uint32_t> allowed, TokenId token) {
  const auto id = static_cast<std::size_t>(token);
  return allowed.empty() || (allowed[id / 32] >> (id % 32) & 1u) != 0;
}

// visit(token - first) for those of the `count` tokens from `first` on that are allowed, in order.
template <typename Visit>
void for_each_allowed(std::span<const std::uint32_t> allowed, TokenId first, std::size_t count, const Visit& visit) {
  constexpr std::uint32_t kAll = ~0u;
  const auto begin = static_cast<std::size_t>(first), end = begin + count;
  for (std::size_t word = begin / 32; word * 32 < end; ++word) {
    std::uint32_t bits = allowed[word];
    if (word * 32 < begin) bits &= kAll << (begin - word * 32);
    if (word * 32 + 32 > end) bits &= (1u << (end - word * 32)) - 1;
    if (bits == kAll) {
      for (std::size_t bit = 0; bit < 32; ++bit) visit(word * 32 + bit - begin);
      continue;
    }
    for (; bits != 0; bits &= bits - 1) visit(word * 32 + static_cast<std::size_t>(std::countr_zero(bits)) - begin);
  }
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

// With bias and penalties.
std::vector<float> adjusted(std::span<const float> untouched, const RowSampling& sampling) {
  std::vector<float> logits(untouched.begin(), untouched.end());
  for (const auto& [token, bias] : sampling.logit_bias) logits[static_cast<std::size_t>(token)] += bias;
  penalise(logits, sampling);
  return logits;
}

TokenLogit likeliest_of(std::span<const float> logits) {
  const auto at = std::max_element(logits.begin(), logits.end());
  return {static_cast<TokenId>(at - logits.begin()), *at};
}

// Of those allowed; `likeliest` is that of all.
TokenLogit likeliest_allowed(std::span<const float> logits, std::span<const std::uint32_t> allowed,
                             TokenLogit likeliest) {
  if (is_allowed(allowed, likeliest.token)) return likeliest;
  TokenLogit best;
  for_each_allowed(allowed, 0, logits.size(), [&](std::size_t i) {
    const TokenLogit one{static_cast<TokenId>(i), logits[i]};
    if (likelier(one, best)) best = one;
  });
  CORTEX_CHECK(best.logit != kNever);
  return best;
}

// The allowed logits of a row by the temperature, as candidates where few of them are wanted.
class TemperedLogits {
 public:
  // `likeliest` is that of the allowed ones.
  TemperedLogits(std::span<const float> logits, std::span<const std::uint32_t> allowed, float temperature,
                 TokenLogit likeliest)
      : logits_(logits),
        allowed_(allowed),
        temperature_(temperature),
        likeliest_(likeliest),
        largest_(tempered(likeliest.logit)) {}

  double largest() const { return largest_; }

  std::vector<Candidate> top_k(std::size_t count) const {
    std::vector<Candidate> top;  // a heap, the least likely first
    double least = -std::numeric_limits<double>::infinity();
    for_each([&](std::size_t i) {
      const Candidate candidate = candidate_of(i);
      if (candidate.logit < least) return;
      if (top.size() == count) {
        if (!likelier(candidate, top.front())) return;
        std::pop_heap(top.begin(), top.end(), likelier);
        top.pop_back();
      }
      top.push_back(candidate);
      std::push_heap(top.begin(), top.end(), likelier);
      if (top.size() == count) least = top.front().logit;
    });
    return top;
  }

  std::vector<Candidate> not_below(double least) const {
    std::vector<Candidate> candidates;
    for_each([&](std::size_t i) {
      if (tempered(logits_[i]) >= least) candidates.push_back(candidate_of(i));
    });
    return candidates;
  }

  // Of exp(logit - largest).
  double total() const {
    constexpr double kLeast = -50.0;  // a vocabulary of less is below what a double of the sum can tell
    double total = 0.0;
    for_each([&](std::size_t i) {
      const double difference = tempered(logits_[i]) - largest_;
      if (difference > kLeast) total += std::exp(difference);
    });
    return total;
  }

  // Of logit + noise the largest. What can't win with the most that its noise may be is passed over: of a uniform u in
  // 53 bits, -log(-log u) <= -log(1 - u) <= ln 2 for each zero that 1 - u begins with, and one more.
  TokenId noisiest(std::uint64_t stream) const {
    constexpr double kLn2 = 0.69314718055994530942, kMargin = 1e-9;
    Candidate best{likeliest_.token, largest_ + gumbel_in_stream(stream, likeliest_.token)};
    for_each([&](std::size_t i) {
      const double logit = tempered(logits_[i]);
      if (logit + (53.0 * kLn2 + kMargin) < best.logit) return;
      const auto token = static_cast<TokenId>(i);
      const std::uint64_t below_one = (std::uint64_t{1} << 52) - 1 - uniform_bits(stream, token);
      if (logit + ((53 - std::bit_width(below_one)) * kLn2 + kMargin) < best.logit) return;
      const Candidate candidate{token, logit + gumbel_in_stream(stream, token)};
      if (likelier(candidate, best)) best = candidate;
    });
    return best.token;
  }

 private:
  template <typename Visit>
  void for_each(const Visit& visit) const {
    if (!allowed_.empty()) return for_each_allowed(allowed_, 0, logits_.size(), visit);
    for (std::size_t i = 0; i < logits_.size(); ++i) visit(i);
  }
  double tempered(float logit) const { return static_cast<double>(logit) / temperature_; }
  Candidate candidate_of(std::size_t index) const { return {static_cast<TokenId>(index), tempered(logits_[index])}; }

  std::span<const float> logits_;
  std::span<const std::uint32_t> allowed_;
  const float temperature_;
  const TokenLogit likeliest_;
  const double largest_;
};

// The shortest run from the likeliest on that reaches top_p of the total; sorted.
void keep_run(std::vector<Candidate>& candidates, double top_p, double total, double largest) {
  std::sort(candidates.begin(), candidates.end(), likelier);
  double reached = 0.0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    reached += std::exp(candidates[i].logit - largest);
    if (reached >= top_p * total) return candidates.resize(i + 1);
  }
}

// Looks at no more than it must: most of the probability usually lies in a few tokens.
std::vector<Candidate> nucleus(const TemperedLogits& logits, double top_p) {
  const double total = logits.total();
  constexpr double kFirst = 4.0, kLast = 1000.0;
  for (double below = kFirst;; below *= 2.0) {
    const bool all = below > kLast;
    std::vector<Candidate> candidates =
        logits.not_below(all ? -std::numeric_limits<double>::infinity() : logits.largest() - below);
    double sum = 0.0;
    for (const Candidate& candidate : candidates) sum += std::exp(candidate.logit - logits.largest());
    // By far: so near the end, the order of the sum decides.
    if (!all && sum < top_p * total * (1.0 + 1e-9)) continue;
    keep_run(candidates, top_p, total, logits.largest());
    return candidates;
  }
}

// What the filters leave, where there are any.
std::vector<Candidate> filtered(const TemperedLogits& logits, const SamplingParams& params, std::size_t vocabulary) {
  const bool cuts = params.top_k > 0 && static_cast<std::size_t>(params.top_k) < vocabulary;
  const double least = logits.largest() + std::log(static_cast<double>(params.min_p));
  std::vector<Candidate> candidates;
  if (cuts) {
    candidates = logits.top_k(static_cast<std::size_t>(params.top_k));
    if (params.top_p < 1.0f) {
      double total = 0.0;
      for (const Candidate& candidate : candidates) total += std::exp(candidate.logit - logits.largest());
      keep_run(candidates, params.top_p, total, logits.largest());
    }
  } else {
    candidates = params.top_p < 1.0f ? nucleus(logits, params.top_p) : logits.not_below(least);
  }
  if (params.min_p > 0.0f) {
    std::erase_if(candidates, [&](const Candidate& candidate) { return candidate.logit < least; });
  }
  return candidates;
}

TokenId choose(std::span<const float> untouched, TokenLogit likeliest, const RowSampling& sampling) {
  std::vector<float> changed;
  std::span<const float> logits = untouched;
  if (!sampling.logit_bias.empty() || !sampling.counts.empty()) {
    changed = adjusted(untouched, sampling);
    logits = changed;
    likeliest = likeliest_of(logits);
  }
  likeliest = likeliest_allowed(logits, sampling.allowed, likeliest);
  const SamplingParams& params = sampling.params;
  if (params.temperature == 0.0f) return likeliest.token;

  const TemperedLogits tempered(logits, sampling.allowed, params.temperature, likeliest);
  const std::uint64_t stream = stream_of(params.seed, sampling.position);
  if (params.top_k == 0 && params.top_p >= 1.0f && params.min_p <= 0.0f) return tempered.noisiest(stream);
  std::vector<Candidate> candidates = filtered(tempered, params, logits.size());
  for (Candidate& candidate : candidates) candidate.logit += gumbel_in_stream(stream, candidate.token);
  return std::min_element(candidates.begin(), candidates.end(), likelier)->token;
}

}  // namespace

bool wants_logits(const WantedRow& wanted) {
  return wanted.token || wanted.top_logprobs > 0 || !wanted.scores.empty() || wanted.logits;
}

bool takes_greedy_choice(const WantedRow& wanted) {
  return wanted.token && wanted.sampling.params.temperature == 0.0f && wanted.sampling.counts.empty();
}

bool wants_every_logit(const WantedRow& wanted) {
  return wanted.logits || (wanted.token && !takes_greedy_choice(wanted));
}

GreedyChoice greedy_choice(std::span<const float> logits, TokenId first, TokenLogit likeliest,
                           const RowSampling& sampling) {
  const auto index = [&](TokenId token) { return static_cast<std::size_t>(token - first); };
  const auto is_here = [&](TokenId token) { return token >= first && index(token) < logits.size(); };
  const bool biased = std::ranges::any_of(sampling.logit_bias, is_here, &std::pair<TokenId, float>::first);
  if (!biased && is_allowed(sampling.allowed, likeliest.token)) return {likeliest, likeliest.logit};
  std::vector<float> changed;
  if (biased) {
    changed.assign(logits.begin(), logits.end());
    for (const auto& [token, bias] : sampling.logit_bias) {
      if (is_here(token)) changed[index(token)] += bias;
    }
  }
  const std::span<const float> choices = biased ? std::span<const float>(changed) : logits;
  if (sampling.allowed.empty()) {
    const TokenLogit best = likeliest_of(choices);
    return {{first + best.token, best.logit}, logits[static_cast<std::size_t>(best.token)]};
  }
  GreedyChoice best;
  for_each_allowed(sampling.allowed, first, logits.size(), [&](std::size_t i) {
    const TokenLogit choice{first + static_cast<TokenId>(i), choices[i]};
    if (likelier(choice, best.biased)) best = {choice, logits[i]};
  });
  return best;
}

LogitSummary summarise(std::span<const float> logits, const WantedRow& wanted) {
  LogitSummary summary;
  summary.finite = all_finite(logits);
  if (!summary.finite || logits.empty()) return summary;
  const auto largest = std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - *largest);
  summary.likeliest = {static_cast<TokenId>(largest - logits.begin()), *largest};
  if (takes_greedy_choice(wanted)) summary.choice = greedy_choice(logits, 0, summary.likeliest, wanted.sampling);
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
  if (takes_greedy_choice(wanted)) {
    CORTEX_CHECK(summary.choice.biased.logit != kNever);
    result.token = summary.choice.biased.token;
    result.logprob = logprob(summary.choice.logit);
  } else if (wanted.token) {
    result.token = choose(logits, summary.likeliest, wanted.sampling);
    result.logprob = logprob(logits[static_cast<std::size_t>(result.token)]);
  }
  return result;
}

double gumbel_noise(std::uint64_t seed, std::int64_t position, TokenId token) {
  return gumbel_in_stream(stream_of(seed, position), token);
}

}  // namespace cortex
