// The temperatures of this machine. Linux: every thermal zone and every hwmon input that says what is critical for it;
// one that does not can't be judged, unless a limit is given, which then is what is critical for all. Pressure is that
// of the sensor which is nearest. macOS: the system's own level of thermal pressure.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "guard/sensor.h"

namespace cortex {

// `root` holds sys/, as "/" does. macOS has no use for either.
std::unique_ptr<Sensor> make_thermal_sensor(std::filesystem::path root, std::optional<double> limit_celsius);

}  // namespace cortex
