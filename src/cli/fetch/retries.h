// What is asked for again when it failed in a way that may pass: how often, and how long after. One owner; one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "cli/fetch/http_client.h"
#include "cli/fetch/progress.h"

namespace cortex {

struct RetryRules {
  int attempts = 5;  // in a row that bring less than `progress_bytes`
  std::uint64_t progress_bytes = 1 << 20;
  std::chrono::milliseconds first_delay{500};  // doubled each time, up to `longest_delay`
  std::chrono::milliseconds longest_delay{16'000};
  std::chrono::milliseconds longest_asked_delay{120'000};  // that a server may ask for
};

class Retries {
 public:
  // `what` is asked for.
  Retries(std::string what, const RetryRules& rules, Progress& progress)
      : what_(std::move(what)), rules_(rules), progress_(progress), delay_(rules.first_delay) {}

  // Says it and waits, at least as long as the server has asked for. Throws NetworkFailure, which ends in `next`, when
  // the attempts are used up, and Interrupted.
  void wait_after(const NetworkFailure& failure, const std::string& next);
  // The attempt that fails now has brought something.
  void begin_again();

 private:
  std::string what_;
  RetryRules rules_;
  Progress& progress_;
  std::chrono::milliseconds delay_;
  int failed_ = 0;
};

// What `ask` returns, asked again while the other side is busy; what can't be reached at all is said at once.
template <typename Ask>
auto while_busy(Retries retries, Ask ask) {
  for (;;) {
    try {
      return ask();
    } catch (const ServerBusy& busy) {
      retries.wait_after(busy, "try again later");
    }
  }
}

}  // namespace cortex
