// The angles of one rotary embedding for the rows at hand. Made on the loading thread, laid out by the engine thread,
// read by the team.
#pragma once

#include <span>
#include <vector>

#include "model/spec.h"

namespace cortex {

class RotaryTable {
 public:
  explicit RotaryTable(const RopeSpec& rope);

  // Row i of what follows stands at positions[i], [T].
  void lay_out(std::span<const int> positions);
  // Turns the heads of one row, [heads, head_dim] at `first`.
  void turn(float* first, int heads, int head_dim, int row) const;
  std::size_t memory_bytes() const { return (cosines_.capacity() + sines_.capacity()) * sizeof(float); }

 private:
  const std::vector<float> inverse_frequencies_;  // [dims / 2]
  const float magnitude_;
  std::vector<float> cosines_, sines_;  // [T, dims / 2], times the magnitude
};

}  // namespace cortex
