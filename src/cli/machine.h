// What this machine is and what of it this process may use. Read once; main's thread. What the system does not tell is
// empty or 0.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace cortex {

struct Processor {
  std::string model;                      // "Intel(R) Xeon(R) ..."
  std::vector<std::string> instructions;  // of those that matter here: "avx2", "avx512f", "amx_int8", "asimd", ...
};

// Of /proc/cpuinfo's text.
Processor parse_cpuinfo(std::string_view text);
// The cores' worth of time that a cgroup's cpu.max grants ("150000 100000" is 1.5); 0: no limit.
double parse_cpu_max(std::string_view text);
// The line "MemAvailable:  123 kB" of /proc/meminfo in bytes.
std::uint64_t parse_available_memory(std::string_view text);

struct Machine {
  Processor processor;
  int cores = 0;         // of the machine
  int usable_cores = 0;  // that this process may run on
  double core_quota = 0;
  std::uint64_t memory_bytes = 0;  // the smaller of RAM and the cgroup's limit
  std::uint64_t available_bytes = 0;
  std::vector<std::string> gpus;  // device files, or "Apple GPU"
  std::uint64_t open_files = 0;   // that this process may have, soft limit
  std::uint64_t most_open_files = 0;
};

Machine read_machine();

}  // namespace cortex
