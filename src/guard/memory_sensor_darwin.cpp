#include <mach/mach.h>
#include <sys/sysctl.h>

#include <algorithm>

#include "guard/memory_sensor.h"

namespace cortex {
namespace {

template <typename Value>
std::optional<Value> read_system(const char* name) {
  Value value{};
  std::size_t bytes = sizeof(value);
  if (::sysctlbyname(name, &value, &bytes, nullptr, 0) != 0 || bytes != sizeof(value)) return {};
  return value;
}

// What can be had without swapping: free pages, those that can be dropped, and those that have long not been used.
std::optional<std::uint64_t> available_bytes() {
  vm_statistics64_data_t statistics{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  const mach_port_t host = mach_host_self();
  const auto result = host_statistics64(host, HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&statistics), &count);
  mach_port_deallocate(mach_task_self(), host);
  if (result != KERN_SUCCESS) return {};
  const std::uint64_t pages =
      std::uint64_t{statistics.free_count} + statistics.inactive_count + statistics.purgeable_count;
  return pages * vm_kernel_page_size;
}

// The system's own judgement: 1 normal, 2 warning, 4 critical.
double system_pressure() {
  switch (read_system<int>("kern.memorystatus_vm_pressure_level").value_or(1)) {
    case 2:
      return 0.80;
    case 4:
      return 0.95;
    default:
      return 0.0;
  }
}

void take_higher(Reading* reading, double pressure, const char* source) {
  if (pressure <= reading->pressure) return;
  reading->pressure = std::min(pressure, 1.0);
  reading->source = source;
}

double share_of(std::uint64_t used, std::uint64_t ceiling) {
  return static_cast<double>(used) / static_cast<double>(std::max(ceiling, std::uint64_t{1}));
}

class MemorySensor : public Sensor {
 public:
  explicit MemorySensor(MemoryLimits limits) : limits_(limits) {}

  std::optional<Reading> read(const EngineLoad& load, TimePoint /*now*/) override {
    const auto total = read_system<std::uint64_t>("hw.memsize");
    if (!total) return {};
    const std::uint64_t reserve = limits_.reserve_bytes.value_or(default_reserve_bytes(*total));
    Reading reading;
    reading.source = "phys_footprint";
    reading.used_bytes = std::max(load.resident_bytes, load.device_bytes);
    reading.ceiling_bytes = *total - std::min(reserve, *total);
    if (limits_.budget_bytes) {
      reading.ceiling_bytes = std::min(reading.ceiling_bytes, ceiling_for_budget(*limits_.budget_bytes));
    }
    take_higher(&reading, share_of(reading.used_bytes, reading.ceiling_bytes), "phys_footprint");
    // Of what the GPU may wire; 0 is the system's own choice.
    if (const auto wired_mib = read_system<int>("iogpu.wired_limit_mb"); wired_mib && *wired_mib > 0) {
      take_higher(&reading, share_of(load.device_bytes, static_cast<std::uint64_t>(*wired_mib) << 20), "device");
    }
    if (const auto available = available_bytes()) {
      take_higher(&reading, scarcity_pressure(*available, reserve), "host_statistics");
    }
    take_higher(&reading, system_pressure(), "memory_pressure");
    return reading;
  }

 private:
  const MemoryLimits limits_;
};

}  // namespace

std::unique_ptr<Sensor> make_memory_sensor(std::filesystem::path /*root*/, MemoryLimits limits) {
  return std::make_unique<MemorySensor>(limits);
}

}  // namespace cortex
