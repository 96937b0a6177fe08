#include "cli/api_keys.h"

#include <fmt/core.h>

#include <algorithm>
#include <sstream>
#include <system_error>

#include "base/error.h"
#include "base/file_system.h"

namespace cortex {
namespace {

constexpr std::uint64_t kLargestFileBytes = 1 << 20;
constexpr std::size_t kShortestKey = 8;

std::string read_file(const std::string& path) {
  try {
    return real_file_system().read_text(path, kLargestFileBytes);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path, fmt::format("--api-key-file {}", error.what()));
  }
}

}  // namespace

std::vector<std::string> read_api_keys(const std::string& path) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_option, fmt::format("--api-key-file {}: {}", path, what));
  };
  std::vector<std::string> keys;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    if (line.size() < kShortestKey) {
      fail(fmt::format("a key of {} characters; at least {}", line.size(), kShortestKey));
    }
    if (std::any_of(line.begin(), line.end(), [](char c) { return c < ' ' || c > '~'; })) {
      fail("a key holds characters that a header can't hold");
    }
    keys.push_back(line);
  }
  if (keys.empty()) fail("has no key");
  return keys;
}

}  // namespace cortex
