// Ctrl-C in commands that have something to put in order before they end. Main's thread.
#pragma once

#include <csignal>
#include <exception>

namespace cortex {

// Thrown where it is seen; run_tool() ends the command quietly.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

// While one lives, SIGINT and SIGTERM are noted instead of ending the process; reads they interrupt return. A second
// one ends it at once.
class InterruptWatch {
 public:
  // A signal that is ignored, as for what a shell runs in the background, stays so.
  InterruptWatch();
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

  static bool interrupted();
  // Throws Interrupted if it was.
  static void check();

 private:
  struct sigaction interrupt_before_{};
  struct sigaction terminate_before_{};
};

}  // namespace cortex
