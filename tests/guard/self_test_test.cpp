#include "guard/self_test.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

using namespace std::chrono_literals;

EngineLoad engine_at(int level) {
  EngineLoad load;
  load.answers = true;
  load.level = level;
  return load;
}

TEST(SelfTest, PassesWhenTheEngineGoesUpAndDownAsItIsTold) {
  SelfTest test(10s);
  SelfTest::TimePoint now{100s};
  EXPECT_GE(test.pressure(), 0.80);
  test.follow({}, engine_at(0), now);
  test.follow(1, engine_at(0), now += 1s);
  EXPECT_EQ(test.state(), SelfTestState::raising);
  test.follow(1, engine_at(1), now += 1s);
  EXPECT_EQ(test.state(), SelfTestState::lowering);
  EXPECT_DOUBLE_EQ(test.pressure(), 0.0);
  test.follow(0, engine_at(1), now += 1s);
  EXPECT_FALSE(test.over());
  test.follow(0, engine_at(0), now += 1s);
  EXPECT_EQ(test.state(), SelfTestState::passed);
}

TEST(SelfTest, FailsWhenTheEngineStaysWhereItIs) {
  for (const int stuck : {0, 1}) {
    SelfTest test(10s);
    SelfTest::TimePoint now{100s};
    for (int i = 0; i < 25; ++i) {
      test.follow(test.state() == SelfTestState::raising ? 1 : 0, engine_at(stuck), now += 1s);
    }
    EXPECT_EQ(test.state(), SelfTestState::failed) << stuck;
  }
}

TEST(SelfTest, WaitsForAnEngineThatIsAway) {
  SelfTest test(10s);
  SelfTest::TimePoint now{100s};
  EngineLoad away = engine_at(0);
  away.answers = false;
  for (int i = 0; i < 100; ++i) test.follow(1, away, now += 1s);
  EXPECT_FALSE(test.over());
  test.follow(1, engine_at(1), now += 1s);
  EXPECT_EQ(test.state(), SelfTestState::lowering);
}

}  // namespace
}  // namespace cortex
