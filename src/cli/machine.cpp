#include "cli/machine.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <thread>

#include "base/resident_memory.h"

namespace cortex {
namespace {

// Files under /proc and /sys say nothing of their size.
std::string text_of(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  const auto last = text.find_last_not_of(" \t\r");
  return first == std::string_view::npos ? std::string_view() : text.substr(first, last - first + 1);
}

bool matters(const std::string& instruction) {
  constexpr std::array<std::string_view, 16> kKnown = {
      "avx",      "avx2",     "fma",      "f16c",     "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
      "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "asimd",   "asimddp",  "i8mm",        "bf16"};
  return std::find(kKnown.begin(), kKnown.end(), instruction) != kKnown.end();
}

int usable_cores() {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

std::vector<std::string> find_gpus() {
#ifdef __APPLE__
  return {"Apple GPU"};
#else
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/dev", error)) {
    const std::string name = entry.path().filename().string();
    const bool nvidia =
        name.starts_with("nvidia") && name.size() > 6 && name.find_first_not_of("0123456789", 6) == std::string::npos;
    if (nvidia || name == "dxg" || name == "kfd") found.push_back(entry.path().string());
  }
  std::sort(found.begin(), found.end());
  return found;
#endif
}

}  // namespace

Processor parse_cpuinfo(std::string_view text) {
  Processor processor;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string_view key = trimmed(std::string_view(line).substr(0, colon));
    const std::string_view value = trimmed(std::string_view(line).substr(colon + 1));
    if (key == "model name" && processor.model.empty()) processor.model = value;
    // All cores have the same ones; Arm calls them features.
    if ((key != "flags" && key != "Features") || !processor.instructions.empty()) continue;
    std::istringstream names{std::string(value)};
    for (std::string name; names >> name;) {
      if (matters(name)) processor.instructions.push_back(name);
    }
  }
  return processor;
}

double parse_cpu_max(std::string_view text) {
  std::istringstream words{std::string(text)};
  double quota = 0, period = 0;
  return words >> quota >> period && quota > 0 && period > 0 ? quota / period : 0;
}

std::uint64_t parse_available_memory(std::string_view text) {
  constexpr std::string_view kKey = "MemAvailable:";
  const auto at = text.find(kKey);
  if (at == std::string_view::npos) return 0;
  std::istringstream words{std::string(text.substr(at + kKey.size(), 64))};
  std::uint64_t kib = 0;
  return words >> kib ? kib * 1024 : 0;
}

Machine read_machine() {
  Machine machine;
  machine.processor = parse_cpuinfo(text_of("/proc/cpuinfo"));
  machine.cores = static_cast<int>(std::thread::hardware_concurrency());
  machine.usable_cores = usable_cores();
  machine.core_quota = parse_cpu_max(text_of("/sys/fs/cgroup/cpu.max"));
  machine.memory_bytes = memory_ceiling_bytes();
  machine.available_bytes = parse_available_memory(text_of("/proc/meminfo"));
  machine.gpus = find_gpus();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    machine.open_files = limit.rlim_cur;
    machine.most_open_files = limit.rlim_max;
  }
  return machine;
}

}  // namespace cortex
