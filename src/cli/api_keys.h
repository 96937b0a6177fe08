// The file of --api-key-file: one key a line; empty lines and those that begin with # are passed over. Main's thread.
#pragma once

#include <string>
#include <vector>

namespace cortex {

// At least one key. Throws Error invalid_path when the file can't be read, invalid_option when it has no key, one that
// is easily guessed, or one that no header can hold; the message repeats none.
std::vector<std::string> read_api_keys(const std::string& path);

}  // namespace cortex
