// Runs sequences on a decoder the way an engine does: block tables, slices, wanted rows.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace cortex {

struct TestSequence {
  std::vector<BlockId> blocks;
  int length = 0;  // tokens that the blocks hold
};

// Block ids first, first + stride, ... modulo `reserved`; a stride prime to it scrambles them.
inline TestSequence sequence_on(int first, int stride, int count, int reserved) {
  TestSequence sequence;
  for (int i = 0; i < count; ++i) sequence.blocks.push_back((first + i * stride) % reserved);
  return sequence;
}

// Adds the tokens as the next slice of `sequence`, which must stay where it is until the step is collected.
inline void add_slice(StepPlan& plan, TestSequence& sequence, std::span<const TokenId> tokens,
                      const WantedRow& wanted_of_each) {
  const int first_row = static_cast<int>(plan.tokens.size());
  const int rows = static_cast<int>(tokens.size());
  plan.tokens.insert(plan.tokens.end(), tokens.begin(), tokens.end());
  plan.slices.push_back({.first_row = first_row, .rows = rows, .start = sequence.length, .blocks = sequence.blocks});
  for (int row = first_row; row < first_row + rows; ++row) {
    plan.wanted.push_back(wanted_of_each);
    plan.wanted.back().row = row;
  }
  sequence.length += rows;
}

inline std::vector<RowResult> run(DecoderBackend& decoder, const StepPlan& plan) {
  StepResult result;
  decoder.submit(plan);
  decoder.collect(&result);
  return std::move(result.rows);
}

inline WantedRow wanted_logits() {
  WantedRow wanted;
  wanted.logits = true;
  return wanted;
}

// The logits of every row, [tokens, vocabulary], computed `chunk` tokens a step (0: all at once).
inline std::vector<float> logits_of(DecoderBackend& decoder, TestSequence& sequence, std::span<const TokenId> tokens,
                                    int chunk = 0) {
  std::vector<float> logits;
  const std::size_t step = chunk == 0 ? tokens.size() : static_cast<std::size_t>(chunk);
  for (std::size_t at = 0; at < tokens.size(); at += step) {
    StepPlan plan;
    add_slice(plan, sequence, tokens.subspan(at, std::min(step, tokens.size() - at)), wanted_logits());
    for (const RowResult& row : run(decoder, plan)) logits.insert(logits.end(), row.logits.begin(), row.logits.end());
  }
  return logits;
}

// The prompt in one step, then `count` greedy tokens one a step.
inline std::vector<TokenId> greedy(DecoderBackend& decoder, TestSequence& sequence, std::span<const TokenId> prompt,
                                   std::size_t count) {
  std::vector<TokenId> next(prompt.begin(), prompt.end()), output;
  WantedRow wanted;
  wanted.token = true;
  wanted.sampling.params.temperature = 0.0f;
  while (output.size() < count) {
    StepPlan plan;
    add_slice(plan, sequence, next, wanted);
    plan.wanted.erase(plan.wanted.begin(), plan.wanted.end() - 1);
    next = {run(decoder, plan).back().token};
    output.push_back(next.front());
  }
  return output;
}

}  // namespace cortex
