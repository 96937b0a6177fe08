#include "service/health.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/clock.h"
#include "base/resident_memory.h"

namespace cortex {
namespace {

void note(Health* health, HealthStatus status, std::string code, std::string message) {
  health->status = std::max(health->status, status);
  health->reasons.push_back({std::move(code), std::move(message)});
}

void assess_engine(const EngineStatus& engine, std::chrono::steady_clock::time_point now, const HealthRules& rules,
                   Health* health) {
  const double tick_age_ms = milliseconds_between(engine.last_tick, now);
  if (engine.state == EngineState::dead) {
    note(health, HealthStatus::unavailable, "engine_dead", "the engine died too often and is not restarted");
  } else if (engine.state == EngineState::restarting) {
    note(health, HealthStatus::unavailable, "engine_restarting", "the engine is being restarted");
  } else if (engine.state == EngineState::stalled || tick_age_ms > static_cast<double>(rules.stall_after.count())) {
    note(health, HealthStatus::unavailable, "engine_stalled", fmt::format("no tick for {:.0f} s", tick_age_ms / 1000));
  } else if (engine.state == EngineState::failing || engine.consecutive_failures >= rules.failing_steps) {
    note(health, HealthStatus::unavailable, "engine_failing",
         fmt::format("the last {} steps failed", engine.consecutive_failures));
  }
}

void assess_models(const EngineStatus& engine, Health* health) {
  if (engine.models.empty()) note(health, HealthStatus::loading, "no_model", "no model is configured");
  for (const auto& model : engine.models) {
    if (model.state == ModelState::loading && !model.on_demand) {
      note(health, HealthStatus::loading, "model_loading",
           fmt::format("{} is loading, {:.0f} %", model.name, 100 * model.progress));
    } else if (model.state == ModelState::failed) {
      note(health, HealthStatus::degraded, "model_failed", fmt::format("{}: {}", model.name, model.failure));
    }
  }
}

// Without the disk prompts are computed again: everything still works.
void assess_disk(const KvDiskStatus& disk, Health* health) {
  if (disk.state == "full") {
    note(health, HealthStatus::degraded, "disk_full", disk.message);
  } else if (disk.state == "error") {
    note(health, HealthStatus::degraded, "disk_error", disk.message);
  } else if (disk.state == "off" && !disk.message.empty()) {
    health->warnings.push_back({"disk_off", disk.message});
  }
}

void assess_level(int level, const std::string& subject, const std::string& message, ErrorCode refusal,
                  Health* health) {
  if (level >= kRefusingLevel) {
    note(health, HealthStatus::unavailable, std::string(name_of(refusal)), message);
  } else if (level > 0) {
    note(health, HealthStatus::degraded, subject + "_elevated", message);
  }
}

std::string describe(const MonitorStatus& monitor) {
  return fmt::format("{}: level {}, pressure {:.2f} ({})", monitor.name, monitor.level, monitor.pressure.value_or(0.0),
                     monitor.source);
}

}  // namespace

std::string_view name_of(HealthStatus status) {
  switch (status) {
    case HealthStatus::ok:
      return "ok";
    case HealthStatus::degraded:
      return "degraded";
    case HealthStatus::loading:
      return "loading";
    case HealthStatus::draining:
      return "draining";
    case HealthStatus::unavailable:
      return "unavailable";
  }
  return "unavailable";
}

Health assess(const EngineStatus& engine, bool draining, std::chrono::steady_clock::time_point now,
              const HealthRules& rules) {
  Health health;
  assess_engine(engine, now, rules, &health);
  assess_models(engine, &health);
  assess_disk(engine.kv_disk, &health);
  if (draining) note(&health, HealthStatus::draining, "draining", "the server is shutting down");
  return health;
}

void assess_guard(const GuardStatus& guard, Health* health) {
  for (const MonitorStatus& monitor : guard.monitors) {
    const bool memory = monitor.name == "memory";
    if (monitor.stale) {
      note(health, HealthStatus::degraded, "monitor_stale",
           fmt::format("{}: nothing was read for {:.0f} s", monitor.name, monitor.age_s.value_or(0.0)));
      if (monitor.level < kRefusingLevel) continue;
    }
    assess_level(monitor.level, memory ? "memory" : "thermal", describe(monitor),
                 memory ? ErrorCode::memory_pressure : ErrorCode::thermal_throttled, health);
  }
  health->guard_wait_s = guard.below_s.at(kRefusingLevel);
  for (const std::string& name : guard.injected) {
    health->warnings.push_back({"monitor_injected", fmt::format("{} is read from a file, for a test", name)});
  }
  if (guard.self_test == SelfTestState::failed) {
    note(health, HealthStatus::unavailable, "self_test_failed", "the guards don't move the engine");
  }
}

std::uint64_t memory_used_bytes(const EngineStatus& engine) {
  return resident_bytes() + (engine.own_process ? engine.memory_bytes : 0);
}

double retry_after_s(const Health& health) {
  switch (health.status) {
    case HealthStatus::unavailable:
      return health.guard_wait_s > 0 ? std::clamp(health.guard_wait_s, 1.0, 60.0) : 2.0;
    default:
      return 1.0;
  }
}

}  // namespace cortex
