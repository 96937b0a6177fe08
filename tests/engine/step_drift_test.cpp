#include "engine/step_drift.h"

#include <gtest/gtest.h>

#include <random>

namespace cortex {
namespace {

class StepDriftTest : public testing::Test {
 protected:
  // Steps of `rows` rows, ten a second.
  void steps(int count, int rows, double ms, StepDrift::Source source = {}) {
    for (int i = 0; i < count; ++i) {
      now_s_ += 0.1;
      drift_.observe(source, slice_size(100, rows), ms, now_s_);
    }
  }
  double ratio() const { return drift_.ratio(now_s_); }

  static constexpr int kKnown = static_cast<int>(StepDrift::kWarmUp + StepDrift::kCalibration);

  double now_s_ = 1000.0;
  StepDrift drift_;
};

TEST_F(StepDriftTest, TooFewStepsSayNothing) {
  EXPECT_EQ(ratio(), 0.0);
  steps(kKnown, 4, 10.0);
  EXPECT_EQ(ratio(), 0.0);
  steps(static_cast<int>(StepDrift::kFewest) - 1, 4, 10.0);
  EXPECT_EQ(ratio(), 0.0);
  steps(1, 4, 10.0);
  EXPECT_DOUBLE_EQ(ratio(), 1.0);
}

TEST_F(StepDriftTest, SlowerStepsShowWithinTheWindowAndGoWithIt) {
  steps(kKnown + 100, 4, 10.0);
  EXPECT_DOUBLE_EQ(ratio(), 1.0);
  steps(300, 4, 14.0);
  EXPECT_NEAR(ratio(), 1.4, 1e-9);
  steps(300, 4, 10.0);
  EXPECT_DOUBLE_EQ(ratio(), 1.0);
  now_s_ += StepDrift::kWindowS + 1;
  EXPECT_EQ(ratio(), 0.0);  // nothing ran
}

TEST_F(StepDriftTest, AnotherSizeIsAnotherTime) {
  steps(kKnown + 20, 1, 10.0);
  steps(100, 256, 300.0);  // longer, but not slower
  EXPECT_DOUBLE_EQ(ratio(), 1.0);
  steps(400, 256, 390.0);
  EXPECT_NEAR(ratio(), 1.3, 1e-9);
}

TEST_F(StepDriftTest, ASingleStepIsNoDrift) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> around(9.5, 10.5);
  for (int i = 0; i < 200; ++i) steps(1, 4, around(random));
  for (int i = 0; i < 20; ++i) {
    steps(1, 4, 500.0);  // somebody else had the processor
    for (int k = 0; k < 9; ++k) steps(1, 4, around(random));
  }
  EXPECT_NEAR(ratio(), 1.0, 0.05);
}

TEST_F(StepDriftTest, TheFirstStepsOfALoadDoNotCount) {
  steps(static_cast<int>(StepDrift::kWarmUp), 4, 1000.0);
  steps(static_cast<int>(StepDrift::kCalibration) + 20, 4, 10.0);
  EXPECT_DOUBLE_EQ(ratio(), 1.0);
}

TEST_F(StepDriftTest, ModelsAndLoadsAreComparedWithThemselves) {
  steps(kKnown + 10, 4, 10.0, {0, 1});
  steps(kKnown + 10, 4, 80.0, {1, 1});
  EXPECT_DOUBLE_EQ(ratio(), 1.0);
  steps(kKnown, 4, 20.0, {0, 2});  // it came back as something else
  steps(100, 4, 20.0, {0, 2});
  EXPECT_DOUBLE_EQ(ratio(), 1.0);
}

TEST_F(StepDriftTest, ATimeThatIsNoneIsLeftOut) {
  steps(kKnown + 10, 4, 10.0);
  steps(100, 4, 0.0);
  EXPECT_DOUBLE_EQ(ratio(), 1.0);
}

}  // namespace
}  // namespace cortex
