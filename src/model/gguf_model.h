// A model in a single GGUF file: spec, weights, vocabulary and chat template all come from it.
#pragma once

#include <filesystem>

#include "base/file_system.h"
#include "model/model.h"

namespace cortex {

// Throws as open_model.
Model open_gguf(const FileSystem& files, const std::filesystem::path& path);

}  // namespace cortex
