#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/portable.h"

namespace cortex {

void attend(const float* query, const std::vector<KeyValueRun>& runs, std::size_t stride, int head_dim, float* scores,
            float* out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  int positions = 0;
  for (const KeyValueRun& run : runs) {
    score_keys(query, run.keys, stride, run.count, head_dim, scale, scores + positions);
    positions += run.count;
  }
  softmax(scores, positions);
  std::fill_n(out, head_dim, 0.0f);
  int position = 0;
  for (const KeyValueRun& run : runs) {
    add_weighted(scores + position, run.values, stride, run.count, head_dim, out);
    position += run.count;
  }
}

}  // namespace cortex
