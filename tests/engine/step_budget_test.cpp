#include "engine/step_budget.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

TEST(StepBudget, LevelZeroTakesNothingAway) {
  const StepBudget budget = budget_at(0, ErrorCode::memory_pressure), free;
  EXPECT_EQ(budget.time_share, free.time_share);
  EXPECT_EQ(budget.sequence_share, 1.0);
  EXPECT_TRUE(budget.drafts && budget.background);
  EXPECT_FALSE(budget.evicts || budget.preempts || budget.cancels);
  EXPECT_EQ(budget.pause.count(), 0);
}

TEST(StepBudget, EachLevelAllowsNoMoreThanTheOneBelow) {
  for (int level = 1; level <= kMostLevel; ++level) {
    const StepBudget below = budget_at(level - 1, ErrorCode::thermal_throttled);
    const StepBudget budget = budget_at(level, ErrorCode::thermal_throttled);
    EXPECT_EQ(budget.level, level);
    EXPECT_EQ(budget.cause, ErrorCode::thermal_throttled);
    EXPECT_LE(budget.time_share, below.time_share);
    EXPECT_LE(budget.sequence_share, below.sequence_share);
    EXPECT_GT(budget.sequence_share, 0.0);
    EXPECT_GE(budget.pause, below.pause);
    EXPECT_LE(budget.drafts, below.drafts);
    EXPECT_LE(budget.background, below.background);
    EXPECT_GE(budget.evicts, below.evicts);
    EXPECT_GE(budget.preempts, below.preempts);
    EXPECT_GE(budget.cancels, below.cancels);
  }
}

TEST(StepBudget, AnOldOneIsLevel1OrWhatItWas) {
  using namespace std::chrono_literals;
  const StepBudget calm = budget_at(0, ErrorCode::thermal_throttled), severe = budget_at(3, ErrorCode::memory_pressure);
  EXPECT_EQ(in_force(calm, 0s).level, 0);
  EXPECT_EQ(in_force(calm, kBudgetTerm).level, 0);
  const StepBudget late = in_force(calm, kBudgetTerm + 1ns);
  EXPECT_EQ(late.level, 1);
  EXPECT_FALSE(late.background);
  EXPECT_EQ(late.cause, ErrorCode::thermal_throttled);
  EXPECT_EQ(in_force(severe, 1h).level, 3);
}

TEST(StepBudget, RefusesWhatIsNoLevel) {
  EXPECT_THROW(budget_at(-1, ErrorCode::memory_pressure), CheckFailure);
  EXPECT_THROW(budget_at(kMostLevel + 1, ErrorCode::memory_pressure), CheckFailure);
  EXPECT_THROW(budget_at(1, ErrorCode::queue_full), CheckFailure);
}

}  // namespace
}  // namespace cortex
