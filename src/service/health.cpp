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

std::uint64_t memory_used_bytes(const EngineStatus& engine) {
  return resident_bytes() + (engine.own_process ? engine.memory_bytes : 0);
}

double retry_after_s(const Health& health) {
  switch (health.status) {
    case HealthStatus::unavailable:
      return 2.0;
    default:
      return 1.0;
  }
}

}  // namespace cortex
