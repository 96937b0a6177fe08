#include "http/traffic.h"

#include <fmt/core.h>

#include "base/error.h"

namespace cortex {

bool Traffic::wait_until_idle(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, timeout, [&] { return requests_ == 0; });
}

Traffic::Request::Request(Traffic& traffic) : traffic_(traffic) {
  std::lock_guard lock(traffic_.mutex_);
  ++traffic_.requests_;
}

Traffic::Request::~Request() {
  traffic_.body_bytes_ -= bytes_;
  std::lock_guard lock(traffic_.mutex_);
  if (--traffic_.requests_ == 0) traffic_.idle_.notify_all();
}

void Traffic::Request::reserve(std::uint64_t bytes) {
  if (bytes <= traffic_.body_limit_bytes_) {
    const std::uint64_t all_bytes = traffic_.body_bytes_ += bytes;
    if (all_bytes <= traffic_.body_limit_bytes_) {
      bytes_ += bytes;
      return;
    }
    traffic_.body_bytes_ -= bytes;
  }
  throw Error(
      ErrorCode::memory_pressure,
      fmt::format("the request bodies in flight would be over the limit of {} bytes", traffic_.body_limit_bytes_));
}

}  // namespace cortex
