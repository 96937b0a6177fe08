#include "guard/default_budget.h"

#include "guard/memory_sensor.h"
#include "guard/nvml.h"

namespace cortex {

std::optional<std::uint64_t> default_memory_budget(const std::filesystem::path& root, const MemoryLimits& limits) {
  if (!Nvml().read().empty()) return std::nullopt;
  const auto reading = make_memory_sensor(root, limits)->read({}, {});
  if (!reading || reading->ceiling_bytes == 0) return std::nullopt;
  return budget_for_ceiling(reading->ceiling_bytes);
}

}  // namespace cortex
