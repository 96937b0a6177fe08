// What /healthz says, as a judgement over what the engine reports: pure functions of their arguments; any thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "guard/guard.h"

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
  double guard_wait_s = 0.0;           // the least time until a guard lets new work in

  bool ready() const { return status == HealthStatus::ok || status == HealthStatus::degraded; }
};

struct HealthRules {
  std::chrono::milliseconds stall_after{30000};  // without a tick
  int failing_steps = 3;                         // in a row
};

Health assess(const EngineStatus& engine, bool draining, std::chrono::steady_clock::time_point now,
              const HealthRules& rules);

// Adds what the guards make of it: a level of 1 or 2, or a monitor that reads nothing any more, degrades; from level 3
// on, and after a failed self-test, nothing is taken.
void assess_guard(const GuardStatus& guard, Health* health);

// Resident bytes of the front and its engine, whether they share a process or not.
std::uint64_t memory_used_bytes(const EngineStatus& engine);

// Seconds a client should wait before it tries again, 1 to 60; meaningful when not ready.
double retry_after_s(const Health& health);

}  // namespace cortex
