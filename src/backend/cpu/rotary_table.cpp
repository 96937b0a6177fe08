#include "backend/cpu/rotary_table.h"

#include <cmath>

#include "backend/cpu/buffer.h"
#include "backend/cpu/kernels.h"

namespace cortex {

RotaryTable::RotaryTable(const RopeSpec& rope)
    : inverse_frequencies_(inverse_frequencies(rope)), magnitude_(rope.magnitude) {}

void RotaryTable::lay_out(std::span<const int> positions) {
  make_room(cosines_, positions.size() * inverse_frequencies_.size());
  make_room(sines_, positions.size() * inverse_frequencies_.size());
  std::size_t at = 0;
  for (const int position : positions) {
    for (const float frequency : inverse_frequencies_) {
      const float angle = static_cast<float>(position) * frequency;
      cosines_[at] = std::cos(angle) * magnitude_;
      sines_[at++] = std::sin(angle) * magnitude_;
    }
  }
}

void RotaryTable::turn(float* first, int heads, int head_dim, int row) const {
  const int half = static_cast<int>(inverse_frequencies_.size());
  const std::size_t at = static_cast<std::size_t>(row) * static_cast<std::size_t>(half);
  for (int head = 0; head < heads; ++head) {
    kernels().rotate(first + std::ptrdiff_t{head} * head_dim, cosines_.data() + at, sines_.data() + at, half);
  }
}

}  // namespace cortex
