// Reads memory or heat and says how near its end it is, on one scale for all: 0.80, 0.90, 0.95 and 0.98 are where the
// levels of governor.h begin. Owned by the guard; its thread only. A read takes a few file reads or system calls and
// never waits.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "guard/engine_load.h"

namespace cortex {

struct Reading {
  double pressure = 0.0;            // 0..1
  std::string source;               // what told, such as "cgroup" or "coretemp"
  std::uint64_t used_bytes = 0;     // of memory, this server's
  std::uint64_t ceiling_bytes = 0;  // of memory, that this server may have
};

class Sensor {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  virtual ~Sensor() = default;
  // Nothing where the machine does not tell.
  virtual std::optional<Reading> read(const EngineLoad& load, TimePoint now) = 0;
};

}  // namespace cortex
