#include "guard/memory_sensor.h"

#include <algorithm>
#include <utility>

#include "guard/cgroup.h"
#include "guard/small_file.h"

namespace cortex {
namespace {

constexpr double kLevel3 = 0.95;
constexpr double kLevel3Stall = 10.0;  // percent

void take_higher(Reading* reading, double pressure, const char* source) {
  if (pressure <= reading->pressure) return;
  reading->pressure = std::min(pressure, 1.0);
  reading->source = source;
}

void lower_ceiling(Reading* reading, std::uint64_t bytes) {
  if (reading->ceiling_bytes == 0 || bytes < reading->ceiling_bytes) reading->ceiling_bytes = bytes;
}

class MemorySensor : public Sensor {
 public:
  MemorySensor(std::filesystem::path root, MemoryLimits limits) : root_(std::move(root)), limits_(limits) {}

  std::optional<Reading> read(const EngineLoad& load, TimePoint /*now*/) override {
    Reading reading;
    reading.source = "rss";
    reading.used_bytes = std::max(load.resident_bytes, load.device_bytes);
    if (limits_.budget_bytes) lower_ceiling(&reading, ceiling_for_budget(*limits_.budget_bytes));
    read_machine(&reading);
    if (const auto cgroup = read_cgroup_memory(root_)) {
      lower_ceiling(&reading, cgroup->limit_bytes);
      take_higher(&reading, cgroup->fullness, "cgroup");
    }
    const auto stall = read_memory_stall(root_);
    if (stall) take_higher(&reading, std::min(*stall / kLevel3Stall, 1.0) * kLevel3, "psi");
    if (reading.ceiling_bytes > 0) {
      take_higher(&reading, static_cast<double>(reading.used_bytes) / static_cast<double>(reading.ceiling_bytes),
                  load.device_bytes > load.resident_bytes ? "device" : "rss");
    } else if (!stall) {
      return {};
    }
    return reading;
  }

 private:
  void read_machine(Reading* reading) const {
    const std::string text = read_small_file(root_ / "proc/meminfo").value_or("");
    const auto total_kib = find_count(text, "MemTotal:");
    if (!total_kib || *total_kib == 0 || *total_kib > (~std::uint64_t{0} >> 10)) return;
    const std::uint64_t total = *total_kib << 10;
    const std::uint64_t reserve = limits_.reserve_bytes.value_or(default_reserve_bytes(total));
    lower_ceiling(reading, std::max(total - std::min(reserve, total), std::uint64_t{1}));
    if (const auto available_kib = find_count(text, "MemAvailable:")) {
      const std::uint64_t available = std::min(*available_kib, *total_kib) << 10;
      take_higher(reading, scarcity_pressure(available, reserve), "meminfo");
    }
  }

  const std::filesystem::path root_;
  const MemoryLimits limits_;
};

}  // namespace

std::unique_ptr<Sensor> make_memory_sensor(std::filesystem::path root, MemoryLimits limits) {
  return std::make_unique<MemorySensor>(std::move(root), limits);
}

}  // namespace cortex
