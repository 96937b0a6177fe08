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

// What a thread needs for the attention of a row.
struct AttentionScratch {
  std::vector<KeyValueRun> runs;
  std::vector<float> scores;  // [positions of the runs]
};

// out = softmax(query . keys * scale) . values, [head_dim], over the scratch's runs, whose scores it overwrites.
void attend(const float* query, AttentionScratch& scratch, std::size_t stride, int head_dim, float scale, float* out);

}  // namespace cortex
