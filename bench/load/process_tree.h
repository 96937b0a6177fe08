// How much memory a process and all that it has started have in RAM; Linux. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace cortex {

// The sum of what is resident of each, so that pages which two of them share count twice. Those that end meanwhile
// count as nothing. 0 where there is no such process.
std::uint64_t resident_tree_bytes(pid_t root);

}  // namespace cortex
