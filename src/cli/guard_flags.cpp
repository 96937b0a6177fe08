#include "cli/guard_flags.h"

#include <fmt/core.h>

#include "base/error.h"
#include "base/excerpt.h"
#include "cli/command_line.h"
#include "guard/default_budget.h"

namespace cortex {

GuardFlags::GuardFlags(CLI::App& app) {
  const auto add_bytes = [&](const std::string& name, auto* value, const char* text, const std::string& help) {
    CLI::Option* option = app.add_option("--" + name, *value, help)->envname(environment_name_of(name));
    takes_bytes(option);
    option->default_str(text);
  };
  add_bytes("memory-budget", &memory_budget_bytes_, "0",
            "Bytes that all models together may have, with KV and scratch; 0: what this machine or its container has "
            "room for");
  add_bytes("memory-reserve", &memory_reserve_bytes_, "by the machine's size",
            "Bytes of the machine's memory that are left to others");
  app.add_option("--temperature-limit", temperature_limit_celsius_,
                 "Degrees Celsius that count as critical for every thermometer, in place of its own limit")
      ->envname(environment_name_of("temperature-limit"))
      ->check(CLI::Range(40.0, 150.0));
  // What only tests want is no setting: it has no name in the environment.
  app.add_option("--inject", injected_,
                 "NAME=FILE: the file, which holds a number from 0 to 1, is read in place of memory or thermal; "
                 "repeatable, for tests")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
  app.add_option("--sysroot", sysroot_, "Where proc/ and sys/ are read, for tests")
      ->type_name("DIR")
      ->capture_default_str();
  const auto add_dwell = [&](const std::string& name, std::int64_t* value) {
    app.add_option("--" + name, *value)->check(CLI::Range(std::int64_t{1}, std::int64_t{3'600'000}))->group("");
  };
  add_dwell("memory-dwell-ms", &memory_dwell_ms_);
  add_dwell("thermal-dwell-ms", &thermal_dwell_ms_);
}

std::optional<std::uint64_t> GuardFlags::memory_budget_bytes() const {
  return memory_budget_bytes_ > 0 ? std::optional(memory_budget_bytes_) : default_memory_budget(sysroot_, limits());
}

MemoryLimits GuardFlags::limits() const {
  MemoryLimits limits;
  if (memory_budget_bytes_ > 0) limits.budget_bytes = memory_budget_bytes_;
  limits.reserve_bytes = memory_reserve_bytes_;
  return limits;
}

GuardOptions GuardFlags::options() const {
  GuardOptions options;
  options.sysroot = sysroot_;
  for (const std::string& text : injected_) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals + 1 == text.size()) {
      throw Error(ErrorCode::invalid_option, fmt::format("--inject {}: NAME=FILE is wanted", excerpt(text)));
    }
    options.injected[text.substr(0, equals)] = text.substr(equals + 1);
  }
  options.memory = limits();
  options.temperature_limit_celsius = temperature_limit_celsius_;
  options.memory_dwell = std::chrono::milliseconds(memory_dwell_ms_);
  options.thermal_dwell = std::chrono::milliseconds(thermal_dwell_ms_);
  return options;
}

}  // namespace cortex
