#include "guard/guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "fakes/fake_clock.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

// An engine that does as it is told, after a turn.
struct ToldEngine {
  EngineLoad load() {
    EngineLoad load;
    load.answers = true;
    load.level = obeys && !told.empty() ? told.back().first : 0;
    load.step_drift = step_drift;
    return load;
  }

  std::vector<std::pair<int, ErrorCode>> told;
  bool obeys = true;
  double step_drift = 0.0;
};

class GuardTest : public testing::Test {
 protected:
  GuardOptions options() {
    GuardOptions options;
    options.sysroot = folder_.path() / "no-root";
    options.injected = {{"memory", folder_.path() / "memory"}, {"thermal", folder_.path() / "thermal"}};
    return options;
  }

  void make(const GuardOptions& options) {
    guard_ = std::make_unique<Guard>(
        options, clock_, [this] { return engine_.load(); },
        [this](int level, ErrorCode cause) { engine_.told.emplace_back(level, cause); });
  }
  void make_tested(const GuardOptions& options) {
    make(options);
    turn(1s);
    ASSERT_EQ(guard_->status().self_test, SelfTestState::passed);
    engine_.told.clear();
  }

  void turn(std::chrono::milliseconds time) {
    for (; time > 0ms; time -= 250ms) {
      clock_.advance(250ms);
      guard_->turn();
    }
  }
  void inject(const std::string& name, const std::string& value) {
    folder_.write("new", value);
    std::filesystem::rename(folder_.path() / "new", folder_.path() / name);
  }
  MonitorStatus status_of(const std::string& name) { return *guard_->status().find(name); }

  TemporaryFolder folder_;
  FakeClock clock_;
  ToldEngine engine_;
  std::unique_ptr<Guard> guard_;
};

TEST_F(GuardTest, TellsAtEveryChangeAndAtLeastEverySecond) {
  make_tested(options());
  turn(10s);
  EXPECT_GE(engine_.told.size(), 9u);
  EXPECT_LE(engine_.told.size(), 11u);
  engine_.told.clear();
  inject("memory", "0.96");
  turn(250ms);
  EXPECT_THAT(engine_.told, ElementsAre(std::pair(3, ErrorCode::memory_pressure)));
  EXPECT_EQ(guard_->status().level, 3);
  EXPECT_EQ(guard_->status().cause, ErrorCode::memory_pressure);
}

TEST_F(GuardTest, HeatIsItsOwnCause) {
  make_tested(options());
  inject("memory", "0.82");
  inject("thermal", "0.91");
  turn(1s);
  EXPECT_EQ(guard_->status().cause, ErrorCode::thermal_throttled);
  EXPECT_EQ(engine_.told.back(), std::pair(2, ErrorCode::thermal_throttled));
  EXPECT_EQ(status_of("memory").level, 1);
  EXPECT_EQ(status_of("thermal").level, 2);
  inject("memory", "0.99");
  turn(250ms);
  EXPECT_EQ(engine_.told.back(), std::pair(4, ErrorCode::memory_pressure));
}

TEST_F(GuardTest, GoesBackThroughEveryLevelAndCountsThem) {
  make_tested(options());
  inject("memory", "0.99");
  turn(250ms);
  inject("memory", "0.1");
  std::vector<int> levels;
  for (int i = 0; i < 45 * 4; ++i) {
    turn(250ms);
    if (levels.empty() || levels.back() != guard_->status().level) levels.push_back(guard_->status().level);
  }
  EXPECT_THAT(levels, ElementsAre(4, 3, 2, 1, 0));
  LevelChanges expected{};
  expected[0][4] = expected[4][3] = expected[3][2] = expected[2][1] = expected[1][0] = 1;
  EXPECT_EQ(status_of("memory").changes, expected);
  EXPECT_EQ(status_of("thermal").changes, LevelChanges());
}

TEST_F(GuardTest, SaysHowLongALevelLastsAtLeast) {
  make_tested(options());
  EXPECT_DOUBLE_EQ(guard_->status().below_s[3], 0.0);
  inject("memory", "0.96");
  turn(250ms);
  EXPECT_DOUBLE_EQ(guard_->status().below_s[3], 10.0);
  inject("memory", "0.1");
  turn(4250ms);
  EXPECT_NEAR(guard_->status().below_s[3], 6.0, 0.01);
  EXPECT_NEAR(guard_->status().below_s[2], 16.0, 0.01);
}

TEST_F(GuardTest, WhatTheMachineDoesNotTellIsUnknownAndNoPressure) {
  GuardOptions without = options();
  without.injected.clear();
  make_tested(without);
  turn(60s);
  EXPECT_EQ(guard_->status().level, 0);
  EXPECT_FALSE(status_of("memory").pressure);
  EXPECT_EQ(status_of("thermal").source, "none");
  EXPECT_TRUE(guard_->status().injected.empty());
}

TEST_F(GuardTest, AnInjectedMonitorThatIsLostIsStale) {
  make_tested(options());
  EXPECT_THAT(guard_->status().injected, ElementsAre("memory", "thermal"));
  inject("memory", "0.3");
  turn(1s);
  EXPECT_EQ(status_of("memory").source, "injected");
  std::filesystem::remove(folder_.path() / "memory");
  turn(4s);
  EXPECT_FALSE(status_of("memory").stale);
  EXPECT_NEAR(*status_of("memory").age_s, 4.0, 0.01);
  turn(2s);
  EXPECT_TRUE(status_of("memory").stale);
  EXPECT_EQ(guard_->status().level, 1);
}

TEST_F(GuardTest, SlowStepsAreHeat) {
  make_tested(options());
  engine_.step_drift = 2.0;
  turn(29s);
  EXPECT_EQ(guard_->status().level, 0);
  turn(3s);
  EXPECT_EQ(guard_->status().level, 1);
  EXPECT_EQ(guard_->status().cause, ErrorCode::thermal_throttled);
  EXPECT_EQ(status_of("step_drift").level, 1);
  EXPECT_EQ(status_of("thermal").level, 0);
}

TEST_F(GuardTest, TheSelfTestMovesTheEngineUpAndBack) {
  make(options());
  turn(1s);
  EXPECT_EQ(guard_->status().self_test, SelfTestState::passed);
  ASSERT_GE(engine_.told.size(), 2u);
  EXPECT_EQ(engine_.told[0].first, 1);
  EXPECT_EQ(engine_.told[1].first, 0);
  // It is no monitor's change.
  EXPECT_EQ(status_of("memory").changes, LevelChanges());
}

TEST_F(GuardTest, TheSelfTestFailsWhenTheEngineDoesNotMove) {
  engine_.obeys = false;
  make(options());
  turn(29s);
  EXPECT_EQ(guard_->status().self_test, SelfTestState::raising);
  turn(2s);
  EXPECT_EQ(guard_->status().self_test, SelfTestState::failed);
  EXPECT_EQ(guard_->status().level, 0);
}

TEST_F(GuardTest, ThereAreTwoMonitorsToInject) {
  GuardOptions wrong = options();
  wrong.injected["fan"] = "x";
  try {
    make(wrong);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_option);
    EXPECT_THAT(error.message(), testing::HasSubstr("fan"));
  }
}

TEST_F(GuardTest, AThreadOfItsOwnDoesTheWork) {
  std::atomic<int> level = 0;
  GuardOptions fast = options();
  fast.memory_every = fast.thermal_every = 1ms;
  Guard guard(
      fast, system_clock(),
      [&] {
        EngineLoad load;
        load.answers = true;
        load.level = level;
        return load;
      },
      [&](int told, ErrorCode) { level = told; });
  guard.start();
  inject("memory", "0.99");
  for (int i = 0; i < 5000 && level != 4; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(level, 4);
  EXPECT_EQ(guard.status().level, 4);
  guard.stop();
  guard.stop();
}

}  // namespace
}  // namespace cortex
