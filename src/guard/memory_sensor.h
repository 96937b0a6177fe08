// The memory of this machine, this server's cgroup and this server. Pressure is the highest of four: what the server
// has of its ceiling; what all in its cgroup have of that one's limit; how little is available on the machine; how long
// all have stood still for want of memory (10 % is level 3).
//
// The ceiling is the least of the cgroup's limits, RAM less the reserve, the device's own limit (macOS) and what the
// budget of the models comes to. What the server has is the greater of its processes' resident bytes (phys_footprint on
// macOS) and what the device's allocator holds.
#pragma once

#include <filesystem>
#include <memory>

#include "guard/memory_limits.h"
#include "guard/sensor.h"

namespace cortex {

// `root` holds proc/ and sys/, as "/" does; macOS has no use for it.
std::unique_ptr<Sensor> make_memory_sensor(std::filesystem::path root, MemoryLimits limits);

}  // namespace cortex
