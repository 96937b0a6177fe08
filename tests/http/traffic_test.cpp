#include "http/traffic.h"

#include <gtest/gtest.h>

#include <optional>

#include "base/error.h"

namespace cortex {
namespace {

using std::chrono::milliseconds;

TEST(Traffic, IsIdleWithoutRequests) {
  Traffic traffic(10);
  EXPECT_TRUE(traffic.wait_until_idle(milliseconds(0)));
  std::optional<Traffic::Request> request(traffic);
  EXPECT_FALSE(traffic.wait_until_idle(milliseconds(1)));
  request.reset();
  EXPECT_TRUE(traffic.wait_until_idle(milliseconds(0)));
}

TEST(Traffic, LimitsAllBodiesTogether) {
  Traffic traffic(10);
  std::optional<Traffic::Request> one(traffic);
  Traffic::Request two(traffic);
  one->reserve(6);
  two.reserve(4);
  EXPECT_THROW(two.reserve(1), Error);
  one.reset();
  two.reserve(6);
  EXPECT_THROW(two.reserve(UINT64_MAX), Error);
}

}  // namespace
}  // namespace cortex
