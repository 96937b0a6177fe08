// Whether a backend may run what it is given: nothing on a device checks an index. Every backend calls this before it
// computes anything. Pure functions; any thread.
#pragma once

#include "backend/backend.h"
#include "backend/step_plan.h"

namespace cortex {

struct PlanLimits {
  int vocabulary = 0;
  int context_tokens = 0;
  int kv_blocks = 0;                          // what was reserved
  std::span<const RowResult> last_step = {};  // what sampled_by_last_step() may mean
};

// Throws Error invalid_token_id for a token outside the vocabulary, CheckFailure for any other breach, both saying
// where.
void check_plan(const StepPlan& plan, const PlanLimits& limits);

// The plan's tokens with sampled_by_last_step() resolved, [T]. The plan is checked already.
std::vector<TokenId> resolved_tokens(const StepPlan& plan, std::span<const RowResult> last_step);

// Likewise for an encoder's texts.
void check_texts(const PackedTexts& texts, const EncoderSpec& spec);

// Block ids that are to be read, written or discarded, and the bytes they come with.
void check_blocks(std::span<const BlockId> blocks, int kv_blocks);
void check_block_bytes(std::span<const BlockId> blocks, std::size_t block_bytes, std::size_t bytes);

}  // namespace cortex
