#include "http/rate_limit.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/try_later.h"

namespace cortex {
namespace {

RateLimitRule with_burst(RateLimitRule rule) {
  CORTEX_CHECK(rule.requests_per_minute >= 0 && rule.burst >= 0 && rule.most_callers > 0);
  if (rule.burst == 0) rule.burst = rule.requests_per_minute;
  return rule;
}

}  // namespace

RateLimit::RateLimit(const RateLimitRule& rule) : rule_(with_burst(rule)) {}

std::optional<double> RateLimit::take(const std::string& caller, Time now) {
  if (rule_.requests_per_minute == 0) return std::nullopt;
  const double per_second = rule_.requests_per_minute / 60.0;
  std::lock_guard lock(mutex_);
  Bucket& bucket = bucket_of(caller, now);
  // Calls of several threads may come here in another order than their times.
  const double passed_s = std::max(0.0, std::chrono::duration<double>(now - bucket.filled).count());
  bucket.tokens = std::min<double>(rule_.burst, bucket.tokens + passed_s * per_second);
  bucket.filled = std::max(bucket.filled, now);
  // A token that lacks a rounding error is one.
  constexpr double kWhole = 1.0 - 1e-9;
  if (bucket.tokens < kWhole) return (1.0 - bucket.tokens) / per_second;
  bucket.tokens = std::max(0.0, bucket.tokens - 1.0);
  return std::nullopt;
}

void RateLimit::enter(const std::string& caller, Time now) {
  const auto wait_s = take(caller, now);
  if (!wait_s) return;
  throw TryLater(ErrorCode::rate_limit_exceeded,
                 fmt::format("the limit is {} requests a minute, {} of them at once; the next is possible in {:.1f} s",
                             rule_.requests_per_minute, rule_.burst, *wait_s),
                 *wait_s);
}

RateLimit::Bucket& RateLimit::bucket_of(const std::string& caller, Time now) {
  if (const auto found = by_caller_.find(caller); found != by_caller_.end()) {
    buckets_.splice(buckets_.begin(), buckets_, found->second);
    return buckets_.front();
  }
  if (buckets_.size() == rule_.most_callers) {
    by_caller_.erase(buckets_.back().caller);
    buckets_.pop_back();
  }
  buckets_.push_front({caller, static_cast<double>(rule_.burst), now});
  by_caller_[caller] = buckets_.begin();
  return buckets_.front();
}

}  // namespace cortex
