#include "cli/api_keys.h"

#include <fmt/core.h>

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/file_system.h"

namespace cortex {
namespace {

constexpr std::uint64_t kLargestFileBytes = 1 << 20;
constexpr std::size_t kShortestKey = 8;

std::string read_file(const std::string& path, std::string_view option) {
  try {
    return real_file_system().read_text(path, kLargestFileBytes);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path, fmt::format("{} {}", option, error.what()));
  }
}

[[noreturn]] void refuse(std::string_view source, std::string_view what) {
  throw Error(ErrorCode::invalid_option, fmt::format("{}: {}", source, what));
}

void check_key(std::string_view key, std::string_view source) {
  if (key.size() < kShortestKey) {
    refuse(source, fmt::format("a key of {} characters; at least {}", key.size(), kShortestKey));
  }
  if (std::any_of(key.begin(), key.end(), [](char c) { return c < ' ' || c > '~'; })) {
    refuse(source, "a key holds characters that a header can't hold");
  }
}

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\r'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// Calls use(part) for what is between any of `separators`.
template <typename Use>
void split(std::string_view text, std::string_view separators, const Use& use) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(separators), text.size());
    use(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::vector<std::string> keys_of_variable(const char* name, const Environment& environment) {
  std::vector<std::string> keys;
  const char* value = environment(name);
  if (!value) return keys;
  split(value, ",\n", [&](std::string_view part) {
    const std::string_view key = trimmed(part);
    if (key.empty()) return;
    check_key(key, name);
    keys.emplace_back(key);
  });
  // Set but empty is more likely a mistake than a wish for no keys.
  if (keys.empty()) refuse(name, "has no key; unset it where none is wanted");
  return keys;
}

std::vector<std::string> keys_of(const std::string& file, std::string_view option, const char* variable,
                                 const Environment& environment) {
  std::vector<std::string> keys = keys_of_variable(variable, environment);
  if (file.empty()) return keys;
  for (auto& key : read_api_keys(file, option)) keys.push_back(std::move(key));
  return keys;
}

}  // namespace

std::vector<std::string> read_api_keys(const std::string& path, std::string_view option) {
  const std::string source = fmt::format("{} {}", option, path);
  std::vector<std::string> keys;
  split(read_file(path, option), "\n", [&](std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') return;
    check_key(line, source);
    keys.emplace_back(line);
  });
  if (keys.empty()) refuse(source, "has no key");
  return keys;
}

AccessKeys read_access_keys(const std::string& api_key_file, const std::string& admin_key_file,
                            const Environment& environment) {
  return {keys_of(api_key_file, "--api-key-file", kApiKeysVariable, environment),
          keys_of(admin_key_file, "--admin-key-file", kAdminKeysVariable, environment)};
}

}  // namespace cortex
