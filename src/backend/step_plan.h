// One step of a decoder: the tokens that some sequences have not computed yet, and what is wanted of some of their
// rows. There is no prefill and no decode: a prompt chunk, a single token and drafts to verify are all just slices.
// Plain values, made by the engine thread for one submit and one collect.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace cortex {

using TokenId = std::int32_t;
using BlockId = std::int32_t;

inline constexpr int kBlockTokens = 16;  // tokens of K and V in a block

// In StepPlan::tokens: "what wanted row `index` of the last step sampled", for devices that run a step ahead.
constexpr TokenId sampled_by_last_step(int index) { return -1 - index; }

struct SequenceSlice {
  int first_row = 0;                // in StepPlan::tokens
  int rows = 0;                     // >= 1
  int start = 0;                    // position of the first row = tokens whose K and V the blocks already hold
  std::span<const BlockId> blocks;  // [>= ceil((start + rows) / kBlockTokens)], owned by the sequence
};

struct SamplingParams {
  float temperature = 1.0f;  // 0 is greedy
  float top_p = 1.0f;        // (0, 1]
  float min_p = 0.0f;        // [0, 1]
  int top_k = 0;             // 0 is off
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  std::uint64_t seed = 0;
};

struct TokenCount {
  TokenId token = 0;
  std::int32_t in_prompt = 0;
  std::int32_t in_output = 0;
};

// How a row's token is chosen. Noise belongs to (seed, position), so a result does not depend on how it was reached.
struct RowSampling {
  SamplingParams params;
  std::int64_t position = 0;                              // of the token that is being chosen
  std::span<const std::pair<TokenId, float>> logit_bias;  // added to logits
  std::span<const TokenCount> counts;                     // for the penalties; empty when they are off
  std::span<const std::uint32_t> allowed;                 // a bit per token, [ceil(vocabulary / 32)]; empty: all
};

struct WantedRow {
  int row = 0;                      // in StepPlan::tokens; ascending over StepPlan::wanted
  bool token = false;               // choose a token by `sampling`, and tell its log-probability
  int top_logprobs = 0;             // the k likeliest tokens, log-softmax of the untouched logits
  std::span<const TokenId> scores;  // log-softmax of the untouched logits at these ids
  bool logits = false;              // the whole row, [vocabulary]
  bool hidden = false;              // after the final norm, [hidden]
  RowSampling sampling;
};

struct StepPlan {
  std::vector<TokenId> tokens;        // [T], every slice's rows one after another
  std::vector<SequenceSlice> slices;  // [S], in the order of their rows
  std::vector<WantedRow> wanted;      // [W]
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0f;
};

struct RowResult {
  TokenId token = -1;
  float logprob = 0.0f;                    // of `token`, log-softmax of the untouched logits
  std::vector<TokenLogprob> top_logprobs;  // likeliest first, ties by id
  std::vector<float> scores;               // as WantedRow::scores
  std::vector<float> logits;               // [vocabulary] when wanted
  std::vector<float> hidden;               // [hidden] when wanted
  bool finite = true;                      // false: the model gave NaN or infinity; nothing else here is valid
};

struct StepResult {
  std::vector<RowResult> rows;  // [W], as StepPlan::wanted
};

}  // namespace cortex
