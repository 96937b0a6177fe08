#include "guard/governor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace cortex {
namespace {

using namespace std::chrono_literals;
using TimePoint = Governor::TimePoint;

const TimePoint kStart{1000s};

MonitorRules rules(const std::string& name, std::chrono::milliseconds dwell) {
  MonitorRules rules;
  rules.name = name;
  rules.dwell = dwell;
  return rules;
}

class GovernorTest : public testing::Test {
 protected:
  // Reads `pressure` every 250 ms for `time`.
  void hold(std::optional<double> pressure, std::chrono::milliseconds time, std::size_t monitor = 0) {
    for (const TimePoint end = now_ + time; now_ < end;) {
      now_ += 250ms;
      governor_.observe(monitor, pressure, now_);
    }
  }

  TimePoint now_ = kStart;
  Governor governor_{{rules("memory", 10s), rules("thermal", 30s)}, kStart};
};

TEST_F(GovernorTest, EveryLevelIsEnteredAtItsThresholdAndAtOnce) {
  struct Row {
    double pressure;
    int level;
  };
  for (const Row& row : {Row{0.0, 0}, Row{0.79, 0}, Row{0.80, 1}, Row{0.89, 1}, Row{0.90, 2}, Row{0.94, 2},
                         Row{0.95, 3}, Row{0.97, 3}, Row{0.98, 4}, Row{1.0, 4}, Row{7.0, 4}}) {
    Governor governor({rules("memory", 10s)}, kStart);
    EXPECT_EQ(governor.observe(0, row.pressure, kStart), row.level > 0) << row.pressure;
    EXPECT_EQ(governor.level(), row.level) << row.pressure;
  }
}

TEST_F(GovernorTest, ALevelIsLeftForTheOneBelowAfterTheDwell) {
  hold(1.0, 250ms);
  hold(0.0, 250ms);
  for (int level = 4; level > 0; --level) {
    hold(0.0, 9750ms);
    EXPECT_EQ(governor_.level(), level);
    hold(0.0, 250ms);
    EXPECT_EQ(governor_.level(), level - 1);
  }
}

TEST_F(GovernorTest, APressureJustUnderTheThresholdKeepsTheLevel) {
  hold(0.91, 250ms);
  hold(0.86, 60s);  // 0.90 less the gap is 0.85
  EXPECT_EQ(governor_.level(), 2);
  hold(0.84, 11s);
  EXPECT_EQ(governor_.level(), 1);
  hold(0.76, 60s);
  EXPECT_EQ(governor_.level(), 1);
  hold(0.74, 11s);
  EXPECT_EQ(governor_.level(), 0);
}

TEST_F(GovernorTest, AMomentOfPressureBeginsTheDwellAnew) {
  hold(0.91, 250ms);
  hold(0.0, 9s);
  hold(0.86, 250ms);
  hold(0.0, 9s);
  EXPECT_EQ(governor_.level(), 2);
  hold(0.0, 2s);
  EXPECT_EQ(governor_.level(), 1);
}

TEST_F(GovernorTest, WhatWasNotLookedAtForLongWasNotLow) {
  hold(0.91, 250ms);
  hold(0.0, 5s);
  now_ += 1h;  // the machine slept
  hold(0.0, 9s);
  EXPECT_EQ(governor_.level(), 2);
  hold(0.0, 2s);
  EXPECT_EQ(governor_.level(), 1);
}

TEST_F(GovernorTest, TheHighestMonitorIsTheCause) {
  hold(0.85, 250ms, 0);
  hold(0.92, 250ms, 1);
  EXPECT_EQ(governor_.level(), 2);
  EXPECT_EQ(governor_.highest(), 1u);
  hold(0.92, 250ms, 0);
  EXPECT_EQ(governor_.highest(), 0u);  // of equals the first
}

TEST_F(GovernorTest, AMonitorThatNeverReadAnythingIsNoPressure) {
  hold({}, 60s);
  EXPECT_EQ(governor_.level(), 0);
  EXPECT_FALSE(governor_.monitors()[0].stale);
  EXPECT_FALSE(governor_.monitors()[0].read);
}

TEST_F(GovernorTest, ALostMonitorKeepsItsLastPressureAndIsThenLevel1) {
  hold(0.2, 250ms);
  hold({}, 5s);
  EXPECT_EQ(governor_.level(), 0);
  EXPECT_FALSE(governor_.monitors()[0].stale);
  hold({}, 250ms);
  EXPECT_EQ(governor_.level(), 1);
  EXPECT_TRUE(governor_.monitors()[0].stale);
  hold({}, 10min);
  EXPECT_EQ(governor_.level(), 1);
  hold(0.2, 11s);
  EXPECT_EQ(governor_.level(), 0);
  EXPECT_FALSE(governor_.monitors()[0].stale);
}

TEST_F(GovernorTest, AMonitorThatIsLostAtALevelGoesDownToTheStaleOneInSteps) {
  hold(0.96, 250ms);
  hold({}, 5s);
  EXPECT_EQ(governor_.level(), 3);
  hold({}, 10250ms);
  EXPECT_EQ(governor_.level(), 2);
  hold({}, 10s);
  EXPECT_EQ(governor_.level(), 1);
  hold({}, 60s);
  EXPECT_EQ(governor_.level(), 1);
}

TEST_F(GovernorTest, TheTimeUntilALevelIsLeft) {
  EXPECT_EQ(governor_.time_below(1, now_), 0ms);
  hold(0.96, 250ms);
  EXPECT_EQ(governor_.time_below(4, now_), 0ms);
  EXPECT_EQ(governor_.time_below(3, now_), 10s);
  EXPECT_EQ(governor_.time_below(2, now_), 20s);
  hold(0.1, 4250ms);
  EXPECT_EQ(governor_.time_below(3, now_), 6s);
  EXPECT_EQ(governor_.time_below(1, now_), 26s);
}

// Random series: calm, rising and jumping pressures, losses and pauses.
class RandomSeries {
 public:
  explicit RandomSeries(unsigned seed) : random_(seed) {}

  std::optional<double> next_pressure() {
    if (real(0, 1) < 0.02) target_ = real(0, 1.1);
    if (real(0, 1) < 0.01) lost_ = !lost_;
    value_ += (target_ - value_) * real(0, 0.5) + real(-0.03, 0.03);
    if (real(0, 1) < 0.01) value_ = real(0.7, 1.0);
    value_ = std::clamp(value_, 0.0, 1.0);
    return lost_ ? std::nullopt : std::optional(value_);
  }
  std::chrono::milliseconds next_pause() {
    const double kind = real(0, 1);
    return std::chrono::milliseconds(static_cast<int>(kind < 0.005 ? real(5'000, 90'000) : real(200, 400)));
  }

 private:
  double real(double least, double most) { return std::uniform_real_distribution<double>(least, most)(random_); }

  std::mt19937 random_;
  double value_ = 0.3;
  double target_ = 0.3;
  bool lost_ = false;
};

// What must hold of a monitor whatever it reads.
class Rules {
 public:
  explicit Rules(const MonitorRules& rules) : rules_(rules) {}

  void check(const Governor::Monitor& monitor, std::optional<double> pressure, TimePoint now) {
    if (monitor.level < level_) {
      ASSERT_EQ(monitor.level, level_ - 1) << "down one at a time";
      ASSERT_TRUE(!changed_ || now - *changed_ >= rules_.dwell) << "no way down within the dwell of any change";
      ASSERT_TRUE(!high_ || now - *high_ >= rules_.dwell) << "nor of a pressure that holds the level";
    }
    // Never under what a pressure that was just read asks for.
    if (pressure) {
      const auto reached =
          std::count_if(rules_.enter.begin(), rules_.enter.end(), [&](double enter) { return *pressure >= enter; });
      ASSERT_GE(monitor.level, reached);
    }
    if (monitor.level != level_) changed_ = now;
    if (monitor.level > 0 && pressure &&
        *pressure >= rules_.enter.at(static_cast<std::size_t>(monitor.level - 1)) - rules_.gap) {
      high_ = now;
    }
    level_ = monitor.level;
  }

 private:
  const MonitorRules rules_;
  int level_ = 0;
  std::optional<TimePoint> changed_;
  std::optional<TimePoint> high_;
};

TEST(GovernorSeries, HoldsItsRulesOverRandomSeriesAndAlwaysComesBack) {
  int changes = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    const auto dwell = std::chrono::milliseconds(500 + 500 * (seed % 40));
    TimePoint now = kStart;
    Governor governor({rules("one", dwell)}, now);
    Rules held(rules("one", dwell));
    RandomSeries series(seed);
    for (int i = 0; i < 2000; ++i) {
      now += series.next_pause();
      const auto pressure = series.next_pressure();
      changes += governor.observe(0, pressure, now) ? 1 : 0;
      held.check(governor.monitors()[0], pressure, now);
      if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed << ", step " << i;
    }
    const TimePoint calm = now;
    while (governor.level() > 0 && now - calm < 5 * dwell + 2s) {
      now += 250ms;
      governor.observe(0, 0.1, now);
      held.check(governor.monitors()[0], 0.1, now);
    }
    ASSERT_EQ(governor.level(), 0) << "seed " << seed;
  }
  EXPECT_GT(changes, 5000);
}

TEST(GovernorSeries, MorePressureIsNeverALowerLevel) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    TimePoint now = kStart;
    Governor less({rules("one", 3s)}, now);
    Governor more({rules("one", 3s)}, now);
    RandomSeries series(seed);
    RandomSeries extra(seed + 1000);
    for (int i = 0; i < 1000; ++i) {
      now += 250ms;
      const double pressure = series.next_pressure().value_or(0.5);
      less.observe(0, pressure, now);
      more.observe(0, pressure + 0.2 * extra.next_pressure().value_or(0.0), now);
      ASSERT_GE(more.level(), less.level()) << "seed " << seed << ", step " << i;
    }
  }
}

}  // namespace
}  // namespace cortex
