#include "http/rate_limit.h"

#include <gtest/gtest.h>

#include <string>

namespace cortex {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const RateLimit::Time kStart{std::chrono::hours(1)};

TEST(RateLimit, WithoutARuleEverythingIsLetThrough) {
  RateLimit limit({});
  for (int i = 0; i < 100'000; ++i) ASSERT_FALSE(limit.take("a", kStart));
}

TEST(RateLimit, ABurstAndThenTheRate) {
  RateLimit limit({.requests_per_minute = 30, .burst = 3});
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limit.take("a", kStart)) << i;
  const auto wait_s = limit.take("a", kStart);
  ASSERT_TRUE(wait_s);
  EXPECT_NEAR(*wait_s, 2.0, 1e-6);
  EXPECT_NEAR(limit.take("a", kStart + milliseconds(500)).value(), 1.5, 1e-6);
  EXPECT_TRUE(limit.take("a", kStart + milliseconds(1999)));
  EXPECT_FALSE(limit.take("a", kStart + milliseconds(2000)));
  EXPECT_TRUE(limit.take("a", kStart + milliseconds(2000)));
}

TEST(RateLimit, WhoWaitsAsToldIsServed) {
  RateLimit limit({.requests_per_minute = 7, .burst = 1});
  RateLimit::Time now = kStart;
  for (int i = 0; i < 50; ++i) {
    ASSERT_FALSE(limit.take("a", now)) << i;
    const auto wait_s = limit.take("a", now);
    ASSERT_TRUE(wait_s) << i;
    now += std::chrono::duration_cast<RateLimit::Time::duration>(std::chrono::duration<double>(*wait_s + 1e-6));
  }
}

TEST(RateLimit, WithoutABurstItIsAMinutesWorth) {
  RateLimit limit({.requests_per_minute = 20});
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(limit.take("a", kStart)) << i;
  EXPECT_TRUE(limit.take("a", kStart));
}

TEST(RateLimit, ASilenceFillsNoMoreThanTheBurst) {
  RateLimit limit({.requests_per_minute = 600, .burst = 2});
  EXPECT_FALSE(limit.take("a", kStart));
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(limit.take("a", kStart + seconds(3600))) << i;
  EXPECT_TRUE(limit.take("a", kStart + seconds(3600)));
}

TEST(RateLimit, EachCallerHasItsOwn) {
  RateLimit limit({.requests_per_minute = 1, .burst = 1});
  EXPECT_FALSE(limit.take("a", kStart));
  EXPECT_FALSE(limit.take("b", kStart));
  EXPECT_TRUE(limit.take("a", kStart));
  EXPECT_TRUE(limit.take("b", kStart));
}

TEST(RateLimit, TimesThatComeInAnotherOrderGiveNothing) {
  RateLimit limit({.requests_per_minute = 60, .burst = 1});
  EXPECT_FALSE(limit.take("a", kStart + seconds(10)));
  EXPECT_TRUE(limit.take("a", kStart));
  EXPECT_TRUE(limit.take("a", kStart + seconds(10)));
  EXPECT_FALSE(limit.take("a", kStart + seconds(11)));
}

TEST(RateLimit, TheTableForgetsTheLongestSilent) {
  RateLimit limit({.requests_per_minute = 1, .burst = 1, .most_callers = 3});
  for (const char* caller : {"a", "b", "c"}) EXPECT_FALSE(limit.take(caller, kStart));
  EXPECT_TRUE(limit.take("a", kStart));   // seen again: the longest silent is b
  EXPECT_FALSE(limit.take("d", kStart));  // in b's place
  EXPECT_TRUE(limit.take("a", kStart));
  EXPECT_TRUE(limit.take("c", kStart));
  EXPECT_FALSE(limit.take("b", kStart));  // in d's, which c and a have outlasted
  for (int i = 0; i < 10'000; ++i) limit.take(std::to_string(i), kStart);
  EXPECT_FALSE(limit.take("a", kStart));
}

}  // namespace
}  // namespace cortex
