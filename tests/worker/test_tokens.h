// Prompt tokens that the echoing test worker obeys.
#pragma once

#include "backend/step_plan.h"

namespace cortex {

inline constexpr TokenId kDieToken = 66601;   // the process gets SIGKILL
inline constexpr TokenId kHangToken = 66602;  // the engine's thread hangs, and only SIGKILL ends the process

}  // namespace cortex
