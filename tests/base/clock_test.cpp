#include "base/clock.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

TEST(Clock, SteadyTimeDoesNotGoBack) {
  const auto first = system_clock().steady_now();
  const auto second = system_clock().steady_now();
  EXPECT_GE(second, first);
  EXPECT_GE(milliseconds_between(first, second), 0.0);
}

TEST(Clock, CountsMilliseconds) {
  const std::chrono::steady_clock::time_point begin{};
  EXPECT_DOUBLE_EQ(milliseconds_between(begin, begin + std::chrono::microseconds(1500)), 1.5);
}

}  // namespace
}  // namespace cortex
