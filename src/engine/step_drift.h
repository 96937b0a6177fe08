// Whether steps take longer than such steps once did: what shows of heat where no sensor tells. Steps of about one size
// are compared with each other: the median of the first ones of a size, once a load's very first steps are over, is
// what such a step takes; the ratio is the median, over the last half minute, of what steps took by that. Pure: the
// caller says what time it is. Owned by the engine, its thread only.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <tuple>
#include <vector>

#include "engine/step_times.h"

namespace cortex {

class StepDrift {
 public:
  static constexpr std::size_t kWarmUp = 8;        // steps of a load, which count for nothing
  static constexpr std::size_t kCalibration = 16;  // steps of a size, whose median is the size's time
  static constexpr std::size_t kFewest = 8;        // steps that make a ratio
  static constexpr double kWindowS = 30.0;

  // A model that is loaded anew begins anew.
  struct Source {
    std::size_t model = 0;
    int load = 0;
    auto operator<=>(const Source&) const = default;
  };

  void observe(const Source& source, const StepSize& size, double ms, double now_s);
  // 1: as ever; 0: too few steps within the window whose size's time is known.
  double ratio(double now_s) const;

 private:
  static constexpr std::size_t kKept = 4096;

  struct Table {
    int load = 0;
    std::size_t steps = 0;
    std::map<std::pair<int, int>, std::vector<double>> first_ms;  // by size; kCalibration of them are enough
  };
  struct Recent {
    double at_s = 0.0, ratio = 0.0;
  };

  std::map<std::size_t, Table> tables_;  // by model
  std::deque<Recent> recent_;
};

}  // namespace cortex
