// Attention of one row, over keys and values that lie in runs. Each score is a function of its own position alone and
// positions are added in ascending order, so a row's result depends on nothing but what it may see.
#pragma once

#include <cstddef>
#include <vector>

namespace cortex {

// Consecutive positions of one head, `stride` floats apart.
struct KeyValueRun {
  const float* keys = nullptr;    // [count, head_dim]
  const float* values = nullptr;  // [count, head_dim]
  int count = 0;
};

// out = softmax(query . keys / sqrt(head_dim)) . values, [head_dim]. `scores` is scratch for all positions of the runs.
void attend(const float* query, const std::vector<KeyValueRun>& runs, std::size_t stride, int head_dim, float* scores,
            float* out);

}  // namespace cortex
