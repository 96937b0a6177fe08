#include "guard/heat.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace cortex {
namespace {

struct Point {
  double below_critical;  // degrees
  double pressure;
};

constexpr std::array<Point, 6> kCurve = {{{95, 0.0}, {15, 0.80}, {8, 0.90}, {3, 0.95}, {0, 0.98}, {-10, 1.0}}};

}  // namespace

double heat_pressure(double celsius, double critical_celsius) {
  const double below = critical_celsius - celsius;
  if (below >= kCurve.front().below_critical) return 0.0;
  for (std::size_t i = 1; i < kCurve.size(); ++i) {
    const Point& cooler = kCurve[i - 1];
    const Point& hotter = kCurve[i];
    if (below < hotter.below_critical) continue;
    const double way = (cooler.below_critical - below) / (cooler.below_critical - hotter.below_critical);
    return way >= 1.0 ? hotter.pressure : cooler.pressure + way * (hotter.pressure - cooler.pressure);
  }
  return 1.0;
}

std::string_view name_of_heat(double pressure) {
  if (pressure >= 0.95) return "critical";
  if (pressure >= 0.90) return "serious";
  return pressure >= 0.80 ? "fair" : "nominal";
}

}  // namespace cortex
