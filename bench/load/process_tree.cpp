#include "bench/load/process_tree.h"

#include <fmt/core.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

namespace cortex {
namespace {

std::uint64_t resident_process_bytes(pid_t process) {
  std::ifstream file(fmt::format("/proc/{}/statm", process));
  std::uint64_t pages = 0, resident_pages = 0;
  file >> pages >> resident_pages;
  return file ? resident_pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

// A process has the children of each of its threads.
void add_children(pid_t process, std::vector<pid_t>* tree) {
  std::error_code gone;
  for (const auto& thread : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", process), gone)) {
    std::ifstream file(thread.path() / "children");
    for (pid_t child = 0; file >> child;) tree->push_back(child);
  }
}

}  // namespace

std::uint64_t resident_tree_bytes(pid_t root) {
  std::vector<pid_t> tree{root};
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const pid_t process = tree[i];
    bytes += resident_process_bytes(process);
    add_children(process, &tree);
  }
  return bytes;
}

}  // namespace cortex
