// What fetching a model takes, and what it comes to. Plain values, used by main's thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/fetch/download.h"

namespace cortex {

struct FetchTools {
  HttpClient& client;
  Progress& progress;
  RetryRules rules;
};

struct Pulled {
  struct File {
    std::string path;
    std::uint64_t size_bytes = 0;
    bool fetched = false;  // now; otherwise it was here
  };
  std::filesystem::path path;  // what to load
  std::string commit;          // of the hub; empty for a package
  std::vector<File> files;
};

// Throws Error weights_io_error when the disk that `folder` is or will be on has less room than `bytes`.
void require_room(const std::filesystem::path& folder, std::uint64_t bytes);

}  // namespace cortex
