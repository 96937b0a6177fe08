#include "guard/self_test.h"

#include <utility>

namespace cortex {

void SelfTest::follow(std::optional<int> told, const EngineLoad& load, TimePoint now) {
  const auto before = std::exchange(followed_, now);
  if (over() || !told || !load.answers) return;
  if (load.level == *told) {
    const bool raised = state_ == SelfTestState::raising;
    // Level 0 is what it has anyway.
    if (raised && *told == 0) return;
    state_ = raised ? SelfTestState::lowering : SelfTestState::passed;
    waited_ = {};
    return;
  }
  if (before) waited_ += now - *before;
  if (waited_ >= patience_) state_ = SelfTestState::failed;
}

}  // namespace cortex
