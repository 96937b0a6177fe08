#include "engine/speculation.h"

#include <algorithm>
#include <cstddef>

namespace cortex {
namespace {

// Predicted times are not exact: less than this is no gain.
constexpr double kLeastGain = 1.03;

}  // namespace

std::vector<int> draft_lengths(std::span<const std::vector<double>> odds, int most, double limit_ms,
                               const std::function<double(int drafts)>& step_ms) {
  struct Place {
    double odds;
    std::size_t sequence;
  };
  std::vector<Place> places;
  for (std::size_t i = 0; i < odds.size(); ++i) {
    for (const double each : odds[i]) places.push_back({each, i});
  }
  std::ranges::stable_sort(places, std::ranges::greater{}, &Place::odds);
  places.resize(std::min(places.size(), static_cast<std::size_t>(std::max(most, 0))));

  std::vector<int> lengths(odds.size());
  const double alone_ms = step_ms(0);
  if (!(alone_ms > 0.0)) return lengths;
  double tokens = static_cast<double>(odds.size());
  double best = tokens * kLeastGain / alone_ms;
  std::size_t taken = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const double ms = step_ms(static_cast<int>(i) + 1);
    if (ms > limit_ms) break;
    tokens += places[i].odds;
    if (tokens / ms <= best) continue;
    best = tokens / ms;
    taken = i + 1;
  }
  for (std::size_t i = 0; i < taken; ++i) ++lengths[places[i].sequence];
  return lengths;
}

}  // namespace cortex
