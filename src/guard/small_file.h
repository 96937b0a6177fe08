// The files in which a system tells of itself: short texts and numbers that may be missing, empty or wrong at any time.
// Pure functions of the file system; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace cortex {

// At most 64 KiB of a regular file; nothing when it can't be read.
std::optional<std::string> read_small_file(const std::filesystem::path& path);

// All of the text but white space around it; nothing when it is anything else. A real number is finite.
std::optional<std::uint64_t> parse_count(std::string_view text);
std::optional<double> parse_real(std::string_view text);

// The number behind `name` in lines of names and numbers, such as "MemTotal:  16318480 kB".
std::optional<std::uint64_t> find_count(std::string_view lines, std::string_view name);

}  // namespace cortex
