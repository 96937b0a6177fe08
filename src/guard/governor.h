// From pressure to levels. Each monitor (memory, heat, ...) has a level of its own, the governor's is the highest:
//
//   level   entered at   means (engine/step_budget.h)
//   1       0.80         less at a time, nothing that nobody waits for
//   2       0.90         fewer at a time, no long prompts, what is cold leaves memory
//   3       0.95         no new work, the least urgent waits
//   4       0.98         the youngest end
//
// A level is entered at once, from any lower one. It is left for the one below after the pressure has been under its
// threshold by `gap` for all of `dwell`, which begins anew with every change. A monitor that never read anything is at
// level 0. One that reads nothing any more keeps its last pressure for `keep`; then it counts as stale, and as having
// the pressure at which `stale_level` begins.
//
// Pure: the caller says what time it is. Owned by the guard, its thread only. The scheme is that of Envoy's overload
// manager.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace cortex {

inline constexpr int kHighestLevel = 4;
inline constexpr int kShortOnlyLevel = 2;  // from here on long prompts are refused
inline constexpr int kRefusingLevel = 3;   // from here on all new work is

struct MonitorRules {
  std::string name;
  std::chrono::milliseconds dwell{10'000};
  std::array<double, kHighestLevel> enter{0.80, 0.90, 0.95, 0.98};
  double gap = 0.05;
  std::chrono::milliseconds keep{5'000};
  int stale_level = 1;
};

class Governor {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Monitor {
    MonitorRules rules;
    int level = 0;
    TimePoint since;                // when the level last changed
    double pressure = 0.0;          // the last that was read
    std::optional<TimePoint> read;  // when that was; absent: never
    bool stale = false;
    std::optional<TimePoint> low;       // since when the pressure has been low enough to go down
    std::optional<TimePoint> observed;  // when it was last looked at
  };

  Governor(std::vector<MonitorRules> rules, TimePoint now);

  // What a monitor reads now: a pressure in 0..1, or nothing. True when that changes its level.
  bool observe(std::size_t monitor, std::optional<double> pressure, TimePoint now);

  const std::vector<Monitor>& monitors() const { return monitors_; }
  int level() const;
  // The first of those with the highest level.
  std::size_t highest() const;
  // The least time until no monitor is at `level` or above it; 0 when none is.
  std::chrono::milliseconds time_below(int level, TimePoint now) const;

 private:
  std::vector<Monitor> monitors_;
};

}  // namespace cortex
