#include "cli/lock_holder.h"

#ifdef __linux__
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <sstream>
#include <string>
#endif

namespace cortex {

#ifdef __linux__

// Source: proc_locks(5).
std::optional<int> lock_holder(const std::filesystem::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  const std::string wanted = fmt::format("{:02x}:{:02x}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream fields(line);
    std::string number, kind, strictness, mode, place;
    int process = 0;
    fields >> number >> kind >> strictness >> mode >> process >> place;
    // Of another namespace, a process is 0 or less.
    if (fields && kind == "FLOCK" && place == wanted && process > 0) return process;
  }
  return std::nullopt;
}

#else

std::optional<int> lock_holder(const std::filesystem::path& /*path*/) { return std::nullopt; }

#endif

}  // namespace cortex
