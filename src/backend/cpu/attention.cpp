#include "backend/cpu/attention.h"

#include <algorithm>

#include "backend/cpu/kernels.h"

namespace cortex {

void attend(const float* query, AttentionScratch& scratch, std::size_t stride, int head_dim, float scale, float* out) {
  std::size_t positions = 0;
  for (const KeyValueRun& run : scratch.runs) positions += static_cast<std::size_t>(run.count);
  scratch.scores.resize(positions);
  float* scores = scratch.scores.data();
  for (const KeyValueRun& run : scratch.runs) {
    kernels().score_keys(query, run.keys, stride, run.count, head_dim, scale, scores);
    scores += run.count;
  }
  kernels().softmax(scratch.scores.data(), static_cast<int>(positions));
  std::fill_n(out, head_dim, 0.0f);
  const float* weights = scratch.scores.data();
  for (const KeyValueRun& run : scratch.runs) {
    kernels().add_weighted(weights, run.values, stride, run.count, head_dim, out);
    weights += run.count;
  }
}

}  // namespace cortex
