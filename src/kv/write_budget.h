// How much may be written to a disk that wears: so many bytes within any 24 hours. Counted by the hour, and an hour
// counts until all of it is a day ago. It begins anew with the process. Pure; its owner's thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace cortex {

class WriteBudget {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit WriteBudget(std::uint64_t bytes_per_day) : bytes_per_day_(bytes_per_day) {}  // 0: no limit

  bool allows(Time now, std::uint64_t bytes) const;
  void spend(Time now, std::uint64_t bytes);

 private:
  struct Hour {
    std::int64_t number = 0;
    std::uint64_t bytes = 0;
  };

  static std::int64_t hour_of(Time now) {
    return std::chrono::duration_cast<std::chrono::hours>(now.time_since_epoch()).count();
  }

  std::uint64_t bytes_per_day_;
  std::array<Hour, 25> hours_{};
};

}  // namespace cortex
