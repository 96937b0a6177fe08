#include "backend/mlx/rotary.h"

#include <cmath>

#include "backend/mlx/layers.h"

namespace cortex {

Rotary::Rotary(const RopeSpec& spec) : inverse_frequencies_(inverse_frequencies(spec)) {}

RotaryRows Rotary::at(std::span<const std::int32_t> positions) const {
  std::vector<float> cosines, sines;
  cosines.reserve(positions.size() * inverse_frequencies_.size());
  sines.reserve(cosines.capacity());
  for (const std::int32_t position : positions) {
    for (const float frequency : inverse_frequencies_) {
      const float angle = static_cast<float>(position) * frequency;
      cosines.push_back(std::cos(angle));
      sines.push_back(std::sin(angle));
    }
  }
  const mx::Shape shape{static_cast<int>(positions.size()), 1, static_cast<int>(inverse_frequencies_.size())};
  return {mx::array(cosines.data(), shape, kDtype), mx::array(sines.data(), shape, kDtype)};
}

mx::array Rotary::turn(const mx::array& x, const RotaryRows& rows) const {
  const int half = static_cast<int>(inverse_frequencies_.size());
  const auto part = [&](int begin, int end) { return mx::slice(x, {0, 0, begin}, {x.shape(0), x.shape(1), end}); };
  const mx::array left = part(0, half), right = part(half, 2 * half);
  std::vector<mx::array> turned{left * rows.cosines - right * rows.sines, right * rows.cosines + left * rows.sines};
  if (2 * half < x.shape(2)) turned.push_back(part(2 * half, x.shape(2)));
  return mx::concatenate(turned, 2);
}

}  // namespace cortex
