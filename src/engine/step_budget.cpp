#include "engine/step_budget.h"

namespace cortex {

StepBudget budget_at(int level, ErrorCode cause) {
  CORTEX_CHECK(level >= 0 && level <= kMostLevel);
  CORTEX_CHECK(cause == ErrorCode::memory_pressure || cause == ErrorCode::thermal_throttled);
  StepBudget budget;
  budget.level = level;
  budget.cause = cause;
  if (level >= 1) {
    budget.time_share = 0.25;
    budget.drafts = budget.background = false;
  }
  if (level >= 2) {
    budget.sequence_share = 0.5;
    budget.evicts = true;
    budget.pause = std::chrono::milliseconds(10);
  }
  if (level >= 3) {
    budget.sequence_share = 0.25;
    budget.preempts = true;
    budget.pause = std::chrono::milliseconds(25);
  }
  budget.cancels = level >= 4;
  return budget;
}

StepBudget in_force(const StepBudget& told, std::chrono::nanoseconds age) {
  return age > kBudgetTerm && told.level < 1 ? budget_at(1, told.cause) : told;
}

}  // namespace cortex
