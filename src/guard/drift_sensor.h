// Heat that no thermometer shows: the engine's steps take longer than such steps should. A server that is slowed down
// for another reason looks the same, so this never makes more than level 1. Always a reading: that nothing is computed
// is no sign of heat.
#pragma once

#include "guard/sensor.h"

namespace cortex {

class DriftSensor : public Sensor {
 public:
  static constexpr double kTooSlow = 1.25;             // times what a step should take
  static constexpr std::chrono::seconds kLasting{30};  // for so long

  std::optional<Reading> read(const EngineLoad& load, TimePoint now) override;

 private:
  std::optional<TimePoint> slow_since_;
};

}  // namespace cortex
