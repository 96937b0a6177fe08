#include "backend/mlx/rotary.h"

#include <cmath>
#include <vector>

#include "backend/mlx/layers.h"

namespace cortex {

RotaryRows rotary_rows(const RopeSpec& rope, std::span<const std::int32_t> positions) {
  const std::vector<float> frequencies = inverse_frequencies(rope);
  std::vector<float> cosines, sines;
  cosines.reserve(positions.size() * frequencies.size());
  sines.reserve(cosines.capacity());
  for (const std::int32_t position : positions) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      cosines.push_back(std::cos(angle) * rope.magnitude);
      sines.push_back(std::sin(angle) * rope.magnitude);
    }
  }
  const mx::Shape shape{static_cast<int>(positions.size()), 1, static_cast<int>(frequencies.size())};
  return {mx::array(cosines.data(), shape, kDtype), mx::array(sines.data(), shape, kDtype)};
}

mx::array turn(const mx::array& x, const RotaryRows& rows) {
  const int half = rows.cosines.shape(2);
  const auto part = [&](int begin, int end) { return mx::slice(x, {0, 0, begin}, {x.shape(0), x.shape(1), end}); };
  const mx::array left = part(0, half), right = part(half, 2 * half);
  std::vector<mx::array> turned{left * rows.cosines - right * rows.sines, right * rows.cosines + left * rows.sines};
  if (2 * half < x.shape(2)) turned.push_back(part(2 * half, x.shape(2)));
  return mx::concatenate(turned, 2);
}

}  // namespace cortex
