// Which process has locked a file with flock, where the system tells: Linux, and there not on every file system. Main's
// thread.
#pragma once

#include <filesystem>
#include <optional>

namespace cortex {

std::optional<int> lock_holder(const std::filesystem::path& path);

}  // namespace cortex
