// What --model takes: a directory, a .gguf file, the name of a model on the hub or of a packaged one; and how it is
// called when no name is given. Main's thread.
#pragma once

#include <filesystem>
#include <string>

#include "base/file_system.h"
#include "engine/model_config.h"
#include "model/hub_cache.h"

namespace cortex {

// Where models are kept on this machine.
struct ModelPlaces {
  std::filesystem::path hub;       // the hub's cache
  std::filesystem::path packaged;  // the packaged models
};

ModelPlaces model_places(const Environment& environment);

// The directory or .gguf file that `text` means. Throws Error invalid_path, with the command that fetches it, when it
// is not here.
std::filesystem::path find_model(const FileSystem& files, const ModelPlaces& places, const std::string& text);

// What a model at that path, or of that name, is called: the last part, without suffix, revision or file.
std::string model_name_of(const std::string& text);

// "[NAME=]PATH[,kind=KIND]", PATH as find_model takes it. Throws Error invalid_option, and as find_model.
ModelConfig parse_model(const FileSystem& files, const ModelPlaces& places, const std::string& text);

}  // namespace cortex
