#include "guard/memory_limits.h"

#include <algorithm>

namespace cortex {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr std::uint64_t kBesidesModels = kGiB / 2;

}  // namespace

std::uint64_t default_reserve_bytes(std::uint64_t ram_bytes) {
  // A machine of 64 GiB shows a little less.
  const std::uint64_t shown = ram_bytes + ram_bytes / 16;
  std::uint64_t reserve = 4 * kGiB;
  if (shown >= 16 * kGiB) reserve = 6 * kGiB;
  if (shown >= 32 * kGiB) reserve = 8 * kGiB;
  if (shown >= 64 * kGiB) reserve = 12 * kGiB;
  return std::min(reserve, ram_bytes / 4);
}

std::uint64_t ceiling_for_budget(std::uint64_t budget_bytes) {
  const std::uint64_t more = budget_bytes / 4 + kBesidesModels;
  return budget_bytes > ~std::uint64_t{0} - more ? ~std::uint64_t{0} : budget_bytes + more;
}

std::uint64_t budget_for_ceiling(std::uint64_t ceiling_bytes) {
  return (ceiling_bytes - std::min(kBesidesModels, ceiling_bytes / 4)) / 5 * 4;
}

double scarcity_pressure(std::uint64_t available_bytes, std::uint64_t reserve_bytes) {
  if (reserve_bytes == 0) return 0.0;
  const double available = static_cast<double>(available_bytes) / (2.0 * static_cast<double>(reserve_bytes));
  return std::clamp(1.0 - available, 0.0, 1.0);
}

}  // namespace cortex
