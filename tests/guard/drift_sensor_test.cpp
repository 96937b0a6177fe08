#include "guard/drift_sensor.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

using namespace std::chrono_literals;

TEST(DriftSensor, SlowStepsForHalfAMinuteAreLevel1) {
  DriftSensor sensor;
  Sensor::TimePoint now{100s};
  EngineLoad load;
  load.answers = true;
  const auto read = [&](double drift, std::chrono::seconds later) {
    load.step_drift = drift;
    now += later;
    return sensor.read(load, now)->pressure;
  };
  EXPECT_DOUBLE_EQ(read(1.2, 60s), 0.0);
  EXPECT_DOUBLE_EQ(read(1.3, 60s), 0.0);
  EXPECT_DOUBLE_EQ(read(3.0, 29s), 0.0);
  EXPECT_DOUBLE_EQ(read(100.0, 1s), 0.80);
  EXPECT_DOUBLE_EQ(read(0.0, 1s), 0.0);  // nothing was computed lately
  EXPECT_DOUBLE_EQ(read(1.3, 1s), 0.0);
}

}  // namespace
}  // namespace cortex
