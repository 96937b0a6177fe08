// What tells one model's files from another's. Pure but for reading; any thread.
#pragma once

#include <filesystem>
#include <string>

#include "base/file_system.h"

namespace cortex {

// 32 digits: XXH3-128 over the bytes of a file, or over names and bytes of a directory's weights, configurations and
// vocabularies. Throws std::system_error when one can't be read.
std::string fingerprint_of(const FileSystem& files, const std::filesystem::path& model);

}  // namespace cortex
