// The models on this machine: those in the hub's cache, the packaged ones and those in folders of models. Reads headers
// and small files only. Main's thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "cli/model_path.h"
#include "model/model_kind.h"

namespace cortex {

struct InventoryEntry {
  std::string name;    // as --model takes it
  std::string source;  // "configured", "packaged", "folder" or "hub"
  std::filesystem::path path;
  std::optional<ModelKind> kind;
  std::string architecture;
  std::string format;
  std::uint64_t weight_bytes = 0;
  int context_tokens = 0;
  std::string problem;  // why it can't be loaded, in one line; empty when it can
};

// Opens what is at the entry's path and fills the rest of it, problem included; one that has a problem stays as it is.
void examine(const FileSystem& files, InventoryEntry* entry);

// A model that was named: `option` is as --model takes it.
InventoryEntry examine_option(const FileSystem& files, const ModelPlaces& places, const std::string& option);

// All that is in the places and in `folders`, by source, then name; what can't be listed is an entry with a problem.
// Throws Error invalid_path for one of `folders` that can't be.
std::vector<InventoryEntry> take_inventory(const FileSystem& files, const ModelPlaces& places,
                                           const std::vector<std::string>& folders);

}  // namespace cortex
