// What the cgroup that this process is in, and those around it, say of memory: version 2, version 1, nested. Linux;
// pure functions of the files below `root` ("/" unless a test has made some up); any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace cortex {

struct CgroupMemory {
  std::uint64_t limit_bytes = 0;  // the smallest up the tree: memory.max, 0.95 of memory.high, memory.limit_in_bytes
  // Of the group that is nearest its own limit: what all in it use, but for what it keeps of files.
  double fullness = 0.0;
};

// Nothing where no limit is set.
std::optional<CgroupMemory> read_cgroup_memory(const std::filesystem::path& root);

// Percent of the last ten seconds in which all of the group (of the machine, where the group does not tell) stood still
// for want of memory.
std::optional<double> read_memory_stall(const std::filesystem::path& root);

}  // namespace cortex
