// What the governor lets the engine do, as it tells it anew at least every second. Plain values: they cross to the
// worker process. Pure.
#pragma once

#include <chrono>

#include "base/error.h"

namespace cortex {

inline constexpr int kMostLevel = 4;

struct StepBudget {
  int level = 0;                                 // of the governor: 0, nothing is amiss, to kMostLevel
  ErrorCode cause = ErrorCode::memory_pressure;  // or thermal_throttled: what those hear whose work is refused or ends
  double time_share = 1.0;                       // of the milliseconds that a step may usually take
  double sequence_share = 1.0;                   // of max_sequences, at least one
  bool drafts = true;                            // whether tokens are drafted
  bool background = true;                        // what nobody waits for: KV to disk, memory that is prepared
  bool evicts = false;                           // cold KV goes to disk and leaves memory; idle models are unloaded
  bool preempts = false;                         // the least urgent above sequence_share stop, and wait anew
  bool cancels = false;                          // the youngest end with `cause`, one a step
  std::chrono::milliseconds pause{0};            // between two steps
};

// A budget that is older counts as level 1, the one before if that was higher.
inline constexpr std::chrono::seconds kBudgetTerm{5};

// What each level means. `level` in 0..kMostLevel, `cause` as above.
StepBudget budget_at(int level, ErrorCode cause);

// What counts when `told` is so old.
StepBudget in_force(const StepBudget& told, std::chrono::nanoseconds age);

}  // namespace cortex
