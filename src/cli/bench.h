// What `cortex bench` times: a workload on a loaded model, straight on its backend, without engine and server. Token
// ids are random but the same in every run and on every machine. One owner; main's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "base/clock.h"

namespace cortex {

inline constexpr int kRowsPerPrefillStep = 512;

// `count` ids below `vocabulary`; another seed gives others.
std::vector<TokenId> fixed_tokens(int count, int vocabulary, std::uint32_t seed);

// The middle one, or the mean of the two in the middle. `values` is not empty.
double median(std::vector<double> values);

// Sequences of equal length, computed side by side.
class DecoderBench {
 public:
  struct Size {
    int sequences = 1;
    int prompt_tokens = 0;  // of each sequence
    int steps = 0;          // each one token of every sequence
  };

  // Reserves the decoder's KV pool. Throws what reserve_kv() throws.
  DecoderBench(DecoderBackend& decoder, int vocabulary, const Size& size, const Clock& clock);

  // Both throw Error numerical_error when the model gives no finite number, what a step throws, and Interrupted.

  // Milliseconds that the prompts take from an empty cache, a sequence after the other, in steps of at most
  // kRowsPerPrefillStep rows; each ends in the choice of a token.
  double prefill();
  // Milliseconds that the steps take, greedy, after the prompts. A sequence without one begins with a fixed token.
  double decode();

 private:
  struct Sequence {
    std::vector<TokenId> prompt;  // [prompt_tokens + 1]; the last stands in for what follows no prompt
    std::vector<BlockId> blocks;
    TokenId next = 0;
  };

  void compute_prompt(Sequence& sequence);
  void advance_all(int position);
  // Fills result_, whose rows all have a token.
  void run(const StepPlan& plan);

  DecoderBackend& decoder_;
  const Size size_;
  const Clock& clock_;
  std::vector<Sequence> sequences_;
  StepResult result_;
};

// Texts of equal length, encoded by one call.
class EncoderBench {
 public:
  EncoderBench(EncoderBackend& encoder, int vocabulary, int texts, int tokens_per_text, const Clock& clock);

  // Milliseconds. Throws what encode() throws, and Interrupted.
  double encode();

 private:
  EncoderBackend& encoder_;
  const Clock& clock_;
  PackedTexts texts_;
};

}  // namespace cortex
