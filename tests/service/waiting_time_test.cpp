#include "service/waiting_time.h"

#include <gtest/gtest.h>

#include <limits>

namespace cortex {
namespace {

TEST(WaitingTime, IsTheLeastWhereNothingIsKnown) {
  const WaitingTime time;
  EXPECT_EQ(time.predict_s({}, 0), WaitingTime::kLeastSeconds);
  EXPECT_EQ(time.predict_s({{"chat", 500}}, 8), WaitingTime::kLeastSeconds);
}

TEST(WaitingTime, IsWhatWaitsByWhatRuns) {
  WaitingTime time;
  time.note("chat", 4.0);
  EXPECT_DOUBLE_EQ(time.predict_s({{"chat", 20}}, 4), 16 * 4.0 / 4);
  EXPECT_DOUBLE_EQ(time.predict_s({{"chat", 20}}, 8), 12 * 4.0 / 8);
  // All of them run: the first to end makes room.
  EXPECT_DOUBLE_EQ(time.predict_s({{"chat", 2}}, 2), 2.0);
  EXPECT_DOUBLE_EQ(time.predict_s({{"chat", 2}}, 0), 2.0);
  // What is told of the engine may be older than what is counted here.
  EXPECT_DOUBLE_EQ(time.predict_s({{"chat", 2}}, 9), 2.0);
}

TEST(WaitingTime, EachModelsRequestsTakeTheirOwnTime) {
  WaitingTime time;
  time.note("chat", 10.0);
  time.note("embed", 0.5);
  EXPECT_DOUBLE_EQ(time.predict_s({{"chat", 1}, {"embed", 9}}, 2), (10.0 + 9 * 0.5) / 10 * 8 / 2);
  EXPECT_GT(time.predict_s({{"chat", 10}}, 2), time.predict_s({{"chat", 1}, {"embed", 9}}, 2));
}

TEST(WaitingTime, OneSlowRequestChangesNothing) {
  WaitingTime time;
  for (int i = 0; i < 9; ++i) time.note("chat", 2.0);
  const double before = time.predict_s({{"chat", 10}}, 2);
  time.note("chat", 3000.0);
  EXPECT_DOUBLE_EQ(time.predict_s({{"chat", 10}}, 2), before);
}

TEST(WaitingTime, ForgetsWhatWasLongAgo) {
  WaitingTime time;
  for (std::size_t i = 0; i < WaitingTime::kRemembered; ++i) time.note("chat", 30.0);
  for (std::size_t i = 0; i < WaitingTime::kRemembered; ++i) time.note("chat", 2.0);
  EXPECT_DOUBLE_EQ(time.predict_s({{"chat", 4}}, 2), 2.0);
}

TEST(WaitingTime, StaysWithinItsBounds) {
  WaitingTime time;
  time.note("chat", 1e9);
  EXPECT_EQ(time.predict_s({{"chat", 500}}, 1), WaitingTime::kMostSeconds);
  WaitingTime quick;
  quick.note("embed", 0.001);
  EXPECT_EQ(quick.predict_s({{"embed", 10}}, 1), WaitingTime::kLeastSeconds);
  WaitingTime odd;
  odd.note("chat", std::numeric_limits<double>::quiet_NaN());
  odd.note("chat", std::numeric_limits<double>::infinity());
  odd.note("chat", -1.0);
  EXPECT_EQ(odd.predict_s({{"chat", 10}}, 1), WaitingTime::kLeastSeconds);
}

}  // namespace
}  // namespace cortex
