// What is under way: how many requests, and the bytes their bodies may fill. Owned by the listener; thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace cortex {

class Traffic {
 public:
  explicit Traffic(std::uint64_t body_limit_bytes) : body_limit_bytes_(body_limit_bytes) {}

  // False if requests are still in flight after that time.
  bool wait_until_idle(std::chrono::milliseconds timeout);

  // One request, while it lives.
  class Request {
   public:
    explicit Request(Traffic& traffic);
    ~Request();
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

    // Counts bytes of its body that have come. Throws Error memory_pressure if all bodies together are over the limit.
    void reserve(std::uint64_t bytes);

   private:
    Traffic& traffic_;
    std::uint64_t bytes_ = 0;
  };

 private:
  const std::uint64_t body_limit_bytes_;
  std::atomic<std::uint64_t> body_bytes_{0};
  std::mutex mutex_;
  std::condition_variable idle_;
  std::size_t requests_ = 0;
};

}  // namespace cortex
