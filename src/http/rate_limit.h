// How often each caller may ask: a bucket of tokens a caller, which fills at a steady rate up to its size, and of which
// every request takes one. Owned by the listener; thread-safe. The time is the caller's to give.
//
// The table is bounded: when it is full, the caller that has been silent the longest is forgotten, and would begin
// with a full bucket again.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

namespace cortex {

struct RateLimitRule {
  int requests_per_minute = 0;  // 0: no limit
  int burst = 0;                // requests at once, after a silence; 0: as many as in a minute
  std::size_t most_callers = 4096;
};

class RateLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit RateLimit(const RateLimitRule& rule);

  // Takes a token. Without one, the seconds until there is one.
  std::optional<double> take(const std::string& caller, Time now);

  // The same; without one, it throws TryLater rate_limit_exceeded.
  void enter(const std::string& caller, Time now);

 private:
  struct Bucket {
    std::string caller;
    double tokens = 0.0;
    Time filled;  // when `tokens` was right
  };
  Bucket& bucket_of(const std::string& caller, Time now);

  const RateLimitRule rule_;   // burst filled in
  std::mutex mutex_;           // guards what follows
  std::list<Bucket> buckets_;  // the last to ask first
  std::unordered_map<std::string, std::list<Bucket>::iterator> by_caller_;
};

}  // namespace cortex
