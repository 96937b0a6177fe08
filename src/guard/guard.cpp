#include "guard/guard.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "base/log.h"
#include "guard/drift_sensor.h"
#include "guard/injected_sensor.h"
#include "guard/memory_sensor.h"
#include "guard/nvml.h"
#include "guard/thermal_sensor.h"

namespace cortex {
namespace {

constexpr std::size_t kMemory = 0;
constexpr std::size_t kThermal = 1;
constexpr std::size_t kDrift = 2;
constexpr std::size_t kSelfTest = 3;

std::vector<MonitorRules> rules_of(const GuardOptions& options) {
  std::vector<MonitorRules> rules(4);
  rules[kMemory].name = "memory";
  rules[kMemory].dwell = options.memory_dwell;
  rules[kThermal].name = "thermal";
  rules[kThermal].dwell = options.thermal_dwell;
  rules[kDrift].name = "step_drift";
  rules[kDrift].dwell = options.thermal_dwell;
  rules[kSelfTest].name = "self_test";
  rules[kSelfTest].dwell = std::chrono::milliseconds(0);
  return rules;
}

// Of several sensors of one thing the one with the highest pressure.
std::optional<Reading> read_all(const std::vector<std::unique_ptr<Sensor>>& sensors, const EngineLoad& load,
                                Sensor::TimePoint now) {
  std::optional<Reading> highest;
  for (const auto& sensor : sensors) {
    auto reading = sensor->read(load, now);
    if (!reading) continue;
    if (!highest) {
      highest = std::move(reading);
    } else if (reading->pressure > highest->pressure) {
      highest->pressure = reading->pressure;
      highest->source = std::move(reading->source);
    }
  }
  return highest;
}

double seconds_between(Sensor::TimePoint begin, Sensor::TimePoint end) {
  return std::max(0.0, milliseconds_between(begin, end) / 1000);
}

void log_change(const Governor::Monitor& monitor, int before, const std::string& source) {
  const std::string line =
      monitor.stale ? fmt::format("guard: {} level {} -> {}, nothing was read for more than {} s", monitor.rules.name,
                                  before, monitor.level, monitor.rules.keep.count() / 1000)
                    : fmt::format("guard: {} level {} -> {}, pressure {:.2f} ({})", monitor.rules.name, before,
                                  monitor.level, monitor.pressure, source);
  if (monitor.level > before) {
    log_warning(line);
  } else {
    log_info(line);
  }
}

}  // namespace

const MonitorStatus* GuardStatus::find(std::string_view name) const {
  const auto named = [&](const MonitorStatus& monitor) { return monitor.name == name; };
  const auto found = std::find_if(monitors.begin(), monitors.end(), named);
  return found == monitors.end() ? nullptr : &*found;
}

Guard::Guard(GuardOptions options, const Clock& clock, ReadLoad read_load, Tell tell)
    : options_(std::move(options)),
      clock_(clock),
      read_load_(std::move(read_load)),
      tell_(std::move(tell)),
      governor_(rules_of(options_), clock.steady_now()),
      self_test_(options_.self_test_patience),
      told_at_(clock.steady_now()) {
  for (const auto& [name, file] : options_.injected) {
    if (name == "memory" || name == "thermal") continue;
    throw Error(ErrorCode::invalid_option,
                fmt::format("--inject {}: there is no such monitor; memory and thermal can be injected", name));
  }
  const auto nvml = std::make_shared<Nvml>();
  std::vector<std::unique_ptr<Sensor>> memory;
  memory.push_back(make_memory_sensor(options_.sysroot, options_.memory));
  memory.push_back(make_gpu_memory_sensor(nvml));
  watch("memory", options_.memory_every, std::move(memory));
  std::vector<std::unique_ptr<Sensor>> thermal;
  thermal.push_back(make_thermal_sensor(options_.sysroot, options_.temperature_limit_celsius));
  thermal.push_back(make_gpu_heat_sensor(nvml));
  watch("thermal", options_.thermal_every, std::move(thermal));
  std::vector<std::unique_ptr<Sensor>> drift;
  drift.push_back(std::make_unique<DriftSensor>());
  watch("step_drift", options_.thermal_every, std::move(drift));
  publish(clock.steady_now());
}

Guard::~Guard() { stop(); }

void Guard::watch(const std::string& name, std::chrono::milliseconds every,
                  std::vector<std::unique_ptr<Sensor>> sensors) {
  if (const auto injected = options_.injected.find(name); injected != options_.injected.end()) {
    sensors.clear();
    sensors.push_back(std::make_unique<InjectedSensor>(injected->second));
    status_.injected.push_back(name);
  }
  Watched watched;
  watched.every = every;
  watched.sensors = std::move(sensors);
  watched_.push_back(std::move(watched));
}

void Guard::start() {
  look_at_all();
  thread_ = std::thread([this] { run(); });
}

void Guard::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Guard::run() {
  const auto pause = std::min({options_.memory_every, options_.thermal_every, options_.tell_every});
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, pause, [this] { return stopping_; })) return;
    }
    look_at_all();
  }
}

void Guard::look_at_all() {
  try {
    turn();
  } catch (const std::exception& error) {
    // The engine, which then is told nothing, goes to level 1 by itself.
    log_error(fmt::format("guard: {}", error.what()));
  }
}

void Guard::turn() {
  const TimePoint now = clock_.steady_now();
  const EngineLoad load = read_load_();
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    Watched& watched = watched_[i];
    if (watched.due && now < *watched.due) continue;
    watched.due = now + watched.every;
    look(i, load, now);
  }
  follow_self_test(load, now);
  tell(now);
  publish(now);
}

void Guard::look(std::size_t monitor, const EngineLoad& load, TimePoint now) {
  Watched& watched = watched_[monitor];
  auto reading = read_all(watched.sensors, load, now);
  const auto pressure = reading ? std::optional(reading->pressure) : std::nullopt;
  if (reading) watched.reading = std::move(reading);
  const int before = governor_.monitors()[monitor].level;
  if (!governor_.observe(monitor, pressure, now)) return;
  const Governor::Monitor& changed = governor_.monitors()[monitor];
  ++watched.changes.at(static_cast<std::size_t>(before)).at(static_cast<std::size_t>(changed.level));
  log_change(changed, before, watched.reading ? watched.reading->source : "none");
}

void Guard::follow_self_test(const EngineLoad& load, TimePoint now) {
  if (self_test_.over()) return;
  self_test_.follow(told_, load, now);
  governor_.observe(kSelfTest, self_test_.pressure(), now);
  if (self_test_.state() == SelfTestState::passed)
    log_info("guard: the self-test moved the engine to level 1 and back");
  if (self_test_.state() == SelfTestState::failed) {
    log_error(fmt::format("guard: self_test_failed: the engine acts at level {}, not at level {} as it was told",
                          load.level, told_.value_or(0)));
  }
}

ErrorCode Guard::cause() const {
  const std::size_t highest = governor_.highest();
  return highest == kThermal || highest == kDrift ? ErrorCode::thermal_throttled : ErrorCode::memory_pressure;
}

void Guard::tell(TimePoint now) {
  const int level = governor_.level();
  if (told_ == level && now - told_at_ < options_.tell_every) return;
  told_ = level;
  told_at_ = now;
  tell_(level, cause());
}

void Guard::publish(TimePoint now) {
  GuardStatus status;
  status.level = governor_.level();
  status.cause = cause();
  status.self_test = self_test_.state();
  for (int level = 1; level <= kHighestLevel; ++level) {
    status.below_s.at(static_cast<std::size_t>(level)) =
        std::chrono::duration<double>(governor_.time_below(level, now)).count();
  }
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    const Governor::Monitor& monitor = governor_.monitors()[i];
    MonitorStatus one;
    one.name = monitor.rules.name;
    one.level = monitor.level;
    one.since_s = seconds_between(monitor.since, now);
    one.stale = monitor.stale;
    one.source = "none";
    if (monitor.read) {
      one.pressure = monitor.pressure;
      one.age_s = seconds_between(*monitor.read, now);
    }
    if (const auto& reading = watched_[i].reading) {
      one.source = reading->source;
      one.used_bytes = reading->used_bytes;
      one.ceiling_bytes = reading->ceiling_bytes;
    }
    one.changes = watched_[i].changes;
    status.monitors.push_back(std::move(one));
  }
  std::lock_guard lock(mutex_);
  status.injected = std::move(status_.injected);
  status_ = std::move(status);
  published_ = now;
}

GuardStatus Guard::status() const {
  const TimePoint now = clock_.steady_now();
  GuardStatus status;
  double passed_s = 0.0;
  {
    std::lock_guard lock(mutex_);
    status = status_;
    passed_s = seconds_between(published_, now);
  }
  for (MonitorStatus& monitor : status.monitors) {
    monitor.since_s += passed_s;
    if (monitor.age_s) *monitor.age_s += passed_s;
  }
  return status;
}

}  // namespace cortex
