// Time, behind an interface so that tests can move it. Any thread.
#pragma once

#include <chrono>

namespace cortex {

class Clock {
 public:
  virtual ~Clock() = default;
  // For durations and deadlines: never goes back, whatever happens to the wall clock.
  virtual std::chrono::steady_clock::time_point steady_now() const = 0;
  // For what people read and what outlives the process.
  virtual std::chrono::system_clock::time_point wall_now() const = 0;
};

// The machine's own; lives as long as the process.
const Clock& system_clock();

inline double milliseconds_between(std::chrono::steady_clock::time_point begin,
                                   std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

}  // namespace cortex
