#include "guard/cgroup.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "guard/small_file.h"

namespace cortex {
namespace {

using Path = std::filesystem::path;

// Version 1 says "no limit" with a number near 2^63.
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 60;
constexpr double kShareOfHigh = 0.95;

struct Membership {
  bool version_2 = false;
  Path mount;  // where the hierarchy is seen
  Path group;  // this process's directory below it
};

bool is_one_of(std::string_view name, std::string_view comma_list) {
  while (!comma_list.empty()) {
    const std::string_view entry = comma_list.substr(0, comma_list.find(','));
    if (entry == name) return true;
    comma_list.remove_prefix(std::min(comma_list.size(), entry.size() + 1));
  }
  return false;
}

// In a container the path may be one of the host's, which is not seen here: its own group is then the mount itself.
Path group_below(const Path& mount, std::string_view path) {
  const Path relative = Path(path).relative_path();
  const bool leaves = std::any_of(relative.begin(), relative.end(), [](const Path& part) { return part == ".."; });
  std::error_code error;
  const Path group = relative.empty() || leaves ? mount : mount / relative;
  return std::filesystem::is_directory(group, error) ? group : mount;
}

// A line is "NUMBER:CONTROLLERS:PATH"; version 2's has number 0 and no controllers.
std::optional<Membership> find_membership(const Path& root) {
  const std::string text = read_small_file(root / "proc/self/cgroup").value_or("");
  std::optional<Membership> found;
  for (std::string_view lines = text; !lines.empty();) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(lines.size(), line.size() + 1));
    const auto first = line.find(':');
    const auto second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view path = line.substr(second + 1);
    const Path mounts = root / "sys/fs/cgroup";
    // Where both are there, version 1 has the memory controller.
    if (is_one_of("memory", controllers))
      return Membership{false, mounts / "memory", group_below(mounts / "memory", path)};
    if (controllers.empty() && line.starts_with("0:")) found = Membership{true, mounts, group_below(mounts, path)};
  }
  return found;
}

// From this process's own group up to the mount.
std::vector<Path> groups_of(const Membership& membership) {
  std::vector<Path> groups = {membership.group};
  while (groups.back() != membership.mount && groups.back().has_parent_path()) {
    groups.push_back(groups.back().parent_path());
  }
  return groups;
}

std::optional<std::uint64_t> read_count(const Path& path) {
  const auto text = read_small_file(path);
  return text ? parse_count(*text) : std::nullopt;
}

std::optional<std::uint64_t> limit_of(const Path& group, bool version_2) {
  auto limit = read_count(group / (version_2 ? "memory.max" : "memory.limit_in_bytes"));
  if (limit && (*limit == 0 || *limit >= kNoLimit)) limit.reset();
  if (!version_2) return limit;
  const auto high = read_count(group / "memory.high");
  if (!high || *high == 0) return limit;
  const auto share = static_cast<std::uint64_t>(kShareOfHigh * static_cast<double>(*high));
  return limit ? std::min(*limit, share) : share;
}

std::optional<std::uint64_t> use_of(const Path& group, bool version_2) {
  const auto used = read_count(group / (version_2 ? "memory.current" : "memory.usage_in_bytes"));
  if (!used) return {};
  const std::string statistics = read_small_file(group / "memory.stat").value_or("");
  std::uint64_t droppable = 0;
  for (const char* name : {"inactive_file", "active_file"}) {
    droppable += find_count(statistics, (version_2 ? "" : "total_") + std::string(name)).value_or(0);
  }
  return *used - std::min(*used, droppable);
}

// Of a line such as "full avg10=1.25 avg60=0.40 avg300=0.08 total=131".
std::optional<double> full_stall(std::string_view text) {
  const auto line = text.find("full avg10=");
  if (line == std::string_view::npos) return {};
  const std::string_view number = text.substr(line + std::string_view("full avg10=").size());
  const auto percent = parse_real(number.substr(0, number.find_first_of(" \n")));
  return percent && *percent >= 0 && *percent <= 100 ? percent : std::nullopt;
}

}  // namespace

std::optional<CgroupMemory> read_cgroup_memory(const Path& root) {
  const auto membership = find_membership(root);
  if (!membership) return {};
  std::optional<CgroupMemory> memory;
  for (const Path& group : groups_of(*membership)) {
    const auto limit = limit_of(group, membership->version_2);
    if (!limit) continue;
    if (!memory) memory = CgroupMemory{*limit, 0.0};
    memory->limit_bytes = std::min(memory->limit_bytes, *limit);
    const auto used = static_cast<double>(use_of(group, membership->version_2).value_or(0));
    memory->fullness = std::max(memory->fullness, used / static_cast<double>(*limit));
  }
  return memory;
}

std::optional<double> read_memory_stall(const Path& root) {
  const auto membership = find_membership(root);
  if (membership && membership->version_2) {
    const auto text = read_small_file(membership->group / "memory.pressure");
    if (const auto stall = full_stall(text.value_or(""))) return stall;
  }
  return full_stall(read_small_file(root / "proc/pressure/memory").value_or(""));
}

}  // namespace cortex
