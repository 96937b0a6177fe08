// Proves at the start that the guard moves the engine: a pressure of level 1 is put in where readings come in, and the
// engine must say that it acts at the level it was told of; then the pressure is taken away again, and so must the
// engine's level go back. Time counts only while the engine answers. Pure; owned by the guard, its thread only.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "guard/engine_load.h"

namespace cortex {

enum class SelfTestState { raising, lowering, passed, failed };

class SelfTest {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit SelfTest(std::chrono::milliseconds patience) : patience_(patience) {}

  SelfTestState state() const { return state_; }
  bool over() const { return state_ == SelfTestState::passed || state_ == SelfTestState::failed; }
  // What to read now.
  double pressure() const { return state_ == SelfTestState::raising ? kRaised : 0.0; }
  // Once a turn. `told`: the level that the engine was last told, after pressure() had been read.
  void follow(std::optional<int> told, const EngineLoad& load, TimePoint now);

 private:
  static constexpr double kRaised = 0.85;

  const std::chrono::milliseconds patience_;
  SelfTestState state_ = SelfTestState::raising;
  std::optional<TimePoint> followed_;
  std::chrono::steady_clock::duration waited_{0};
};

}  // namespace cortex
