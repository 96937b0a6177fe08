#include <algorithm>
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

// The pair whose frequency makes `turns` turns in the original context, as a real number.
double pair_of(const RopeSpec& rope, double turns) {
  return rope.dims * std::log(rope.original_context / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(rope.theta));
}

// Pairs below the one that makes beta_fast turns are left alone, those above the one of beta_slow stretched by the
// factor, those between blend.
double scale_yarn(const RopeSpec& rope, int pair, double frequency) {
  double low = pair_of(rope, rope.beta_fast);
  double high = pair_of(rope, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rope.dims - 1.0);
  if (low == high) high += 0.001;
  const double stretched = std::clamp((pair - low) / (high - low), 0.0, 1.0);
  return stretched * frequency / rope.factor + (1.0 - stretched) * frequency;
}

double scale(const RopeSpec& rope, int pair, double frequency) {
  switch (rope.scaling) {
    case RopeSpec::Scaling::none:
      return frequency;
    case RopeSpec::Scaling::linear:
      return frequency / rope.factor;
    case RopeSpec::Scaling::llama3:
      return scale_llama3(rope, frequency);
    case RopeSpec::Scaling::yarn:
      return scale_yarn(rope, pair, frequency);
  }
  return frequency;
}

}  // namespace

std::vector<float> inverse_frequencies(const RopeSpec& rope) {
  CORTEX_CHECK(rope.dims >= 0 && rope.dims % 2 == 0);
  const auto pairs = static_cast<std::size_t>(rope.dims) / 2;
  CORTEX_CHECK(rope.divisors.empty() || rope.divisors.size() == pairs);
  std::vector<float> frequencies;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    double frequency = std::pow(static_cast<double>(rope.theta), -2.0 * static_cast<double>(pair) / rope.dims);
    if (!rope.divisors.empty()) frequency /= rope.divisors[pair];
    frequencies.push_back(static_cast<float>(scale(rope, static_cast<int>(pair), frequency)));
  }
  return frequencies;
}

}  // namespace cortex
