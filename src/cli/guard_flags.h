// The options of serve that say how much memory and heat it may make, and what a test puts in their place. Main's
// thread.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "guard/guard.h"

namespace cortex {

class GuardFlags {
 public:
  explicit GuardFlags(CLI::App& app);

  // Of weights, KV and scratch of all models; absent: nothing is known of this machine's memory.
  std::optional<std::uint64_t> memory_budget_bytes() const;
  // Throws Error invalid_option.
  GuardOptions options() const;

 private:
  MemoryLimits limits() const;

  std::uint64_t memory_budget_bytes_ = 0;  // 0: none
  std::optional<std::uint64_t> memory_reserve_bytes_;
  std::optional<double> temperature_limit_celsius_;
  std::vector<std::string> injected_;  // NAME=FILE
  std::string sysroot_ = "/";
  std::int64_t memory_dwell_ms_ = GuardOptions().memory_dwell.count();
  std::int64_t thermal_dwell_ms_ = GuardOptions().thermal_dwell.count();
};

}  // namespace cortex
