// A temperature on the scale of pressure, and a pressure of heat in words. Pure.
#pragma once

#include <string_view>

namespace cortex {

// 0.80 (level 1) at 15 degrees Celsius below what is critical for the part, 0.90 at 8, 0.95 at 3, 0.98 at the critical
// temperature itself; in between in straight lines.
double heat_pressure(double celsius, double critical_celsius);

// "nominal", "fair" from level 1 on, "serious" from 2, "critical" from 3.
std::string_view name_of_heat(double pressure);

}  // namespace cortex
