#include "cli/fetch/retries.h"

#include <fmt/core.h>

#include <algorithm>
#include <thread>

#include "cli/interrupt.h"

namespace cortex {
namespace {

void sleep(std::chrono::milliseconds delay) {
  constexpr std::chrono::milliseconds kLook{50};
  for (std::chrono::milliseconds waited{0}; waited < delay; waited += kLook) {
    InterruptWatch::check();
    std::this_thread::sleep_for(std::min(kLook, delay - waited));
  }
}

}  // namespace

void Retries::begin_again() {
  failed_ = 0;
  delay_ = rules_.first_delay;
}

void Retries::wait_after(const NetworkFailure& failure, const std::string& next) {
  if (++failed_ >= rules_.attempts) {
    throw NetworkFailure(fmt::format("{}: {}; {} attempts failed; {}", what_, failure.what(), failed_, next));
  }
  std::chrono::milliseconds delay = delay_;
  if (const auto* busy = dynamic_cast<const ServerBusy*>(&failure)) {
    const std::chrono::milliseconds asked = busy->ask_again_after();
    delay = std::max(delay, std::min(asked, rules_.longest_asked_delay));
  }
  const std::string when = delay < std::chrono::seconds(1)
                               ? ""
                               : " in " + format_duration(std::chrono::duration_cast<std::chrono::seconds>(delay));
  progress_.note(fmt::format("{}: {}; trying again{}", what_, failure.what(), when));
  sleep(delay);
  delay_ = std::min(2 * delay_, rules_.longest_delay);
}

}  // namespace cortex
