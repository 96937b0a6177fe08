// The reference sampler: from a row of logits in host memory to what was wanted of it. Every backend that brings its
// logits to the host uses it, and one that samples on its device is compared with it. Pure functions; any thread.
//
// Order: log-probabilities come from the log-softmax of the untouched logits. The choice of a token then takes
//   1. logit_bias, added;
//   2. penalties: repetition over prompt and output (Keskar et al. 2019, CTRL: positive logits are divided, others
//      multiplied), then presence and frequency over the output (as OpenAI documents: logit - count * frequency -
//      (count > 0) * presence);
//   3. the mask of allowed tokens;
//   4. temperature; 0 ends here with the largest logit, ties to the lowest id;
//   5. top_k: the k largest, ties to the lowest ids;
//   6. top_p: of those, renormalised, the shortest run from the likeliest on whose probabilities reach top_p;
//   7. min_p: of those, the ones at least min_p times as likely as the likeliest;
//   8. the largest of logit / temperature + Gumbel noise (the Gumbel-max trick: a sample of the softmax).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "backend/step_plan.h"

namespace cortex {

// Whether the row must go through the head at all.
bool wants_logits(const WantedRow& wanted);

// Whether the row's token is simply the largest of those allowed, with its bias.
bool takes_greedy_choice(const WantedRow& wanted);

// Whether each logit of the row is needed: it is asked for, or a token is wanted that is no greedy choice.
bool wants_every_logit(const WantedRow& wanted);

struct TokenLogit {
  TokenId token = 0;
  float logit = -std::numeric_limits<float>::infinity();
};
// The larger logit; of equal ones the lower id.
inline constexpr auto likelier =  // NOLINT(readability-identifier-naming): called like a function
    [](const auto& a, const auto& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; };

// The likeliest of the allowed tokens once logit_bias has been added.
struct GreedyChoice {
  TokenLogit biased;   // with its bias; minus infinity where no token is allowed
  float logit = 0.0f;  // without
};
// Of some logits, which are those of the tokens from `first` on; `likeliest` is the likeliest of them.
GreedyChoice greedy_choice(std::span<const float> logits, TokenId first, TokenLogit likeliest,
                           const RowSampling& sampling);

// What every choice and log-probability of a row begins with; all there is to know of the logits of a row that doesn't
// want every one.
struct LogitSummary {
  bool finite = true;  // all of them; otherwise nothing else here is valid
  TokenLogit likeliest;
  GreedyChoice choice;  // of a row that takes it: takes_greedy_choice()
  double log_sum_exp = 0.0;
  std::vector<TokenLogit> top;  // [WantedRow::top_logprobs, or the whole vocabulary], likeliest first
  std::vector<float> scores;    // the logits of WantedRow::scores
};
LogitSummary summarise(std::span<const float> logits, const WantedRow& wanted);

// `logits` [vocabulary], empty when only the hidden state is wanted; `hidden` [hidden], empty unless wanted. Values
// that are not finite give a result with finite = false and nothing else. The mask, where there is one, allows at least
// one token; ids are below the vocabulary (plan_check.h).
RowResult sample_row(std::span<const float> logits, std::span<const float> hidden, const WantedRow& wanted);
// The same where a device has summarised the logits; these may be empty unless wants_every_logit(wanted).
RowResult sample_row(const LogitSummary& summary, std::span<const float> logits, std::span<const float> hidden,
                     const WantedRow& wanted);

// Standard Gumbel noise of one token at one position: nothing else enters, so a result does not depend on how it was
// reached. The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"): the
// token counts along the stream that seed and position select.
double gumbel_noise(std::uint64_t seed, std::int64_t position, TokenId token);

}  // namespace cortex
