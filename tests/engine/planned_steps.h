// What tests ask a scheduler to run, and how they read its steps and answer them.
#pragma once

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "engine/scheduler.h"

namespace cortex {

inline std::vector<TokenId> prompt_of(int tokens, TokenId first = 100) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < tokens; ++i) prompt.push_back(first + i);
  return prompt;
}

inline GenerateRequest request(RequestId id, int prompt_tokens, int max_tokens) {
  GenerateRequest made;
  made.id = id;
  made.prompt = prompt_of(prompt_tokens, static_cast<TokenId>(100 * id));  // each its own
  made.max_tokens = max_tokens;
  made.sampling.temperature = 0.0f;
  return made;
}

inline TextSequence text(RequestId id, std::size_t index, int tokens, std::span<const TokenId> scores = {}) {
  return {id, index, prompt_of(tokens, static_cast<TokenId>(1000 * id + 100 * index)), scores, 0, {}};
}

// What a plan says, one string a slice: "start+rows[blocks]".
inline std::vector<std::string> slices_of(const StepPlan& plan) {
  std::vector<std::string> slices;
  int row = 0;
  for (const SequenceSlice& slice : plan.slices) {
    EXPECT_EQ(slice.first_row, row);
    row += slice.rows;
    std::string text = std::to_string(slice.start) + "+" + std::to_string(slice.rows) + "[";
    for (std::size_t i = 0; i < slice.blocks.size(); ++i) text += (i ? " " : "") + std::to_string(slice.blocks[i]);
    slices.push_back(text + "]");
  }
  EXPECT_EQ(static_cast<int>(plan.tokens.size()), row);
  return slices;
}

inline std::vector<int> wanted_rows(const StepPlan& plan) {
  std::vector<int> rows;
  for (const WantedRow& wanted : plan.wanted) rows.push_back(wanted.row);
  return rows;
}

// Every wanted token is `token`, every score -0.25, every state {0.5, 2}.
inline StepResult answer(const StepPlan& plan, TokenId token = 7) {
  StepResult result;
  for (const WantedRow& wanted : plan.wanted) {
    RowResult row;
    if (wanted.token) {
      row.token = token;
      row.logprob = -1.5f;
    }
    row.scores.assign(wanted.scores.size(), -0.25f);
    if (wanted.hidden) row.hidden = {0.5f, 2.0f};
    result.rows.push_back(row);
  }
  return result;
}

}  // namespace cortex
