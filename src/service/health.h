// What /healthz says, as a judgement over what the engine reports: pure functions of their arguments; any thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace cortex {

enum class HealthStatus { ok, degraded, loading, draining, unavailable };
std::string_view name_of(HealthStatus status);

struct HealthReason {
  std::string code;  // api: "engine_restarting", ...
  std::string message;
};

struct Health {
  HealthStatus status = HealthStatus::ok;
  std::vector<HealthReason> reasons;
  std::vector<HealthReason> warnings;  // change nothing about the status

  bool ready() const { return status == HealthStatus::ok || status == HealthStatus::degraded; }
};

struct HealthRules {
  std::chrono::milliseconds stall_after{30000};  // without a tick
  int failing_steps = 3;                         // in a row
};

Health assess(const EngineStatus& engine, bool draining, std::chrono::steady_clock::time_point now,
              const HealthRules& rules);

// Resident bytes of the front and its engine, whether they share a process or not.
std::uint64_t memory_used_bytes(const EngineStatus& engine);

// Seconds a client should wait before it tries again, at least 1; meaningful when not ready.
double retry_after_s(const Health& health);

}  // namespace cortex
