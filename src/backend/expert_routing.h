// Which experts of a mixture compute which rows: the host's part of a layer with experts, the same for every backend.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/spec.h"

namespace cortex {

// The rows that one expert computes, and what its output counts in each.
struct ExpertRows {
  int expert = 0;
  std::vector<std::int32_t> rows;  // ascending
  std::vector<float> weights;      // [rows.size()]
};

// `logits` [T, spec.count] are the router's. The experts that some row chose, ascending: each row is with
// spec.per_token of them. A row's choice depends on its own logits alone.
std::vector<ExpertRows> route(std::span<const float> logits, const ExpertsSpec& spec);

}  // namespace cortex
