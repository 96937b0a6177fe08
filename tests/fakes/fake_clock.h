// A clock that stands still until a test moves it. Any thread.
#pragma once

#include <atomic>
#include <chrono>

#include "base/clock.h"

namespace cortex {

class FakeClock : public Clock {
 public:
  std::chrono::steady_clock::time_point steady_now() const override {
    return std::chrono::steady_clock::time_point(std::chrono::milliseconds(now_ms_.load()));
  }
  std::chrono::system_clock::time_point wall_now() const override {
    return std::chrono::system_clock::time_point(std::chrono::milliseconds(kStartMs + now_ms_.load()));
  }
  void advance(std::chrono::milliseconds by) { now_ms_ += by.count(); }

 private:
  static constexpr std::int64_t kStartMs = 1'700'000'000'000;  // Unix time
  std::atomic<std::int64_t> now_ms_{1'000'000};
};

}  // namespace cortex
