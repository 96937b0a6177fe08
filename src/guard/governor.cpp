#include "guard/governor.h"

#include <algorithm>

#include "base/error.h"

namespace cortex {
namespace {

using Monitor = Governor::Monitor;

double threshold(const MonitorRules& rules, int level) { return rules.enter.at(static_cast<std::size_t>(level - 1)); }

int level_for(const MonitorRules& rules, double pressure) {
  const auto reached = [&](double enter) { return pressure >= enter; };
  return static_cast<int>(std::count_if(rules.enter.begin(), rules.enter.end(), reached));
}

bool may_go_down(const Monitor& monitor, double pressure) {
  return monitor.level > 0 && pressure < threshold(monitor.rules, monitor.level) - monitor.rules.gap;
}

// The pressure to act on: the last that was read, or what stands for it when that was too long ago.
double pressure_of(const Monitor& monitor) {
  if (!monitor.stale) return monitor.pressure;
  return monitor.rules.stale_level == 0 ? 0.0 : threshold(monitor.rules, monitor.rules.stale_level);
}

void change(Monitor* monitor, int level, double pressure, Governor::TimePoint now) {
  monitor->level = level;
  monitor->since = now;
  monitor->low = may_go_down(*monitor, pressure) ? std::optional(now) : std::nullopt;
}

}  // namespace

Governor::Governor(std::vector<MonitorRules> rules, TimePoint now) {
  for (auto& one : rules) {
    CORTEX_CHECK(std::is_sorted(one.enter.begin(), one.enter.end()));
    CORTEX_CHECK(one.stale_level >= 0 && one.stale_level <= kHighestLevel);
    Monitor monitor;
    monitor.rules = std::move(one);
    monitor.since = now;
    monitors_.push_back(std::move(monitor));
  }
  CORTEX_CHECK(!monitors_.empty());
}

bool Governor::observe(std::size_t index, std::optional<double> pressure, TimePoint now) {
  Monitor& monitor = monitors_.at(index);
  if (pressure) {
    monitor.pressure = std::clamp(*pressure, 0.0, 1.0);
    monitor.read = now;
  }
  if (!monitor.read) return false;
  monitor.stale = now - *monitor.read > monitor.rules.keep;
  // Nobody knows what it was while nobody looked, as after a machine has slept.
  if (monitor.observed && now - *monitor.observed > monitor.rules.keep) monitor.low.reset();
  monitor.observed = now;

  const double acted_on = pressure_of(monitor);
  const int reached = level_for(monitor.rules, acted_on);
  if (reached > monitor.level) {
    change(&monitor, reached, acted_on, now);
    return true;
  }
  if (!may_go_down(monitor, acted_on)) {
    monitor.low.reset();
    return false;
  }
  if (!monitor.low) monitor.low = now;
  if (now - *monitor.low < monitor.rules.dwell) return false;
  change(&monitor, monitor.level - 1, acted_on, now);
  return true;
}

int Governor::level() const { return monitors_[highest()].level; }

std::size_t Governor::highest() const {
  const auto lower = [](const Monitor& a, const Monitor& b) { return a.level < b.level; };
  return static_cast<std::size_t>(std::max_element(monitors_.begin(), monitors_.end(), lower) - monitors_.begin());
}

std::chrono::milliseconds Governor::time_below(int level, TimePoint now) const {
  std::chrono::milliseconds longest{0};
  for (const Monitor& monitor : monitors_) {
    if (monitor.level < level) continue;
    const auto waited = monitor.low ? std::chrono::duration_cast<std::chrono::milliseconds>(now - *monitor.low)
                                    : std::chrono::milliseconds(0);
    const auto whole = monitor.rules.dwell * (monitor.level - level + 1);
    longest = std::max(longest, whole - std::min(waited, monitor.rules.dwell));
  }
  return longest;
}

}  // namespace cortex
