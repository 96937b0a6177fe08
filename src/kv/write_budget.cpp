#include "kv/write_budget.h"

#include <cstddef>

namespace cortex {

bool WriteBudget::allows(Time now, std::uint64_t bytes) const {
  if (bytes_per_day_ == 0) return true;
  std::uint64_t left = bytes_per_day_;
  for (const Hour& hour : hours_) {
    if (hour_of(now) - hour.number > 24) continue;
    if (hour.bytes > left) return false;
    left -= hour.bytes;
  }
  return bytes <= left;
}

void WriteBudget::spend(Time now, std::uint64_t bytes) {
  Hour& hour = hours_[static_cast<std::size_t>(hour_of(now)) % hours_.size()];
  if (hour.number != hour_of(now)) hour = {hour_of(now), 0};
  hour.bytes += bytes;
}

}  // namespace cortex
