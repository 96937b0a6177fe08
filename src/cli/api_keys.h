// The keys that a server asks for, from files (one key a line; empty lines and those that begin with # are passed over)
// and from the environment (separated by commas or line ends), never from a command line. Main's thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/hub_cache.h"

namespace cortex {

inline constexpr const char* kApiKeysVariable = "CORTEX_API_KEYS";
inline constexpr const char* kAdminKeysVariable = "CORTEX_ADMIN_KEYS";

// At least one key. Throws Error invalid_path when the file can't be read, invalid_option when it has no key, one that
// is easily guessed, or one that no header can hold; the message names `option` and repeats no key.
std::vector<std::string> read_api_keys(const std::string& path, std::string_view option = "--api-key-file");

struct AccessKeys {
  std::vector<std::string> api;
  std::vector<std::string> admin;  // for everything

  bool none() const { return api.empty() && admin.empty(); }
};

// Those of both files, where they are named, and of both variables, where they are set. Throws as read_api_keys.
AccessKeys read_access_keys(const std::string& api_key_file, const std::string& admin_key_file,
                            const Environment& environment);

}  // namespace cortex
