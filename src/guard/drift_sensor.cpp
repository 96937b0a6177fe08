#include "guard/drift_sensor.h"

namespace cortex {

std::optional<Reading> DriftSensor::read(const EngineLoad& load, TimePoint now) {
  if (!load.answers || load.step_drift <= kTooSlow) {
    slow_since_.reset();
  } else if (!slow_since_) {
    slow_since_ = now;
  }
  Reading reading;
  reading.pressure = slow_since_ && now - *slow_since_ >= kLasting ? 0.80 : 0.0;
  reading.source = "step_drift";
  return reading;
}

}  // namespace cortex
