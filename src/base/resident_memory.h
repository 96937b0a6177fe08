// How much memory this process has in RAM, and how much it may have: what /healthz tells. Any thread; a few
// microseconds.
#pragma once

#include <cstdint>

namespace cortex {

// Resident bytes of this process (phys_footprint on macOS); 0 where the system does not tell.
std::uint64_t resident_bytes();

// The smaller of the machine's RAM and the cgroup's limit.
std::uint64_t memory_ceiling_bytes();

// Has the allocator return to the system what it keeps of freed memory, where it can. Takes milliseconds.
void give_back_free_memory();

}  // namespace cortex
