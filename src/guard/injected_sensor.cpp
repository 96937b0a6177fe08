#include "guard/injected_sensor.h"

#include "guard/small_file.h"

namespace cortex {

std::optional<Reading> InjectedSensor::read(const EngineLoad& /*load*/, TimePoint /*now*/) {
  const auto text = read_small_file(file_);
  const auto value = text ? parse_real(*text) : std::nullopt;
  if (!value || *value < 0.0 || *value > 1.0) return {};
  Reading reading;
  reading.pressure = *value;
  reading.source = "injected";
  return reading;
}

}  // namespace cortex
