#include <cmath>
#include <numbers>

#include "base/error.h"
#include "model/spec.h"

namespace cortex {
namespace {

// Wavelengths longer than the original context / low factor are stretched by `factor`, those shorter than the original
// context / high factor are left alone, those between blend.
double scale_llama3(const RopeSpec& rope, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double turns = rope.original_context / wavelength;  // in the original context
  if (turns < rope.low_frequency_factor) return frequency / rope.factor;
  if (turns > rope.high_frequency_factor) return frequency;
  const double smooth = (turns - rope.low_frequency_factor) /
                        (static_cast<double>(rope.high_frequency_factor) - rope.low_frequency_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

double scale(const RopeSpec& rope, double frequency) {
  switch (rope.scaling) {
    case RopeSpec::Scaling::none:
      return frequency;
    case RopeSpec::Scaling::linear:
      return frequency / rope.factor;
    case RopeSpec::Scaling::llama3:
      return scale_llama3(rope, frequency);
  }
  return frequency;
}

}  // namespace

std::vector<float> inverse_frequencies(const RopeSpec& rope) {
  CORTEX_CHECK(rope.dims >= 0 && rope.dims % 2 == 0);
  std::vector<float> frequencies;
  for (int i = 0; i < rope.dims; i += 2) {
    const double plain = std::pow(static_cast<double>(rope.theta), -static_cast<double>(i) / rope.dims);
    frequencies.push_back(static_cast<float>(scale(rope, plain)));
  }
  return frequencies;
}

}  // namespace cortex
