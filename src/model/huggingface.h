// A model in the Hugging Face layout: config.json, safetensors, tokenizer.json and what stands beside them.
#pragma once

#include <filesystem>

#include "base/file_system.h"
#include "model/model.h"

namespace cortex {

// Throws as open_model.
Model open_huggingface(const FileSystem& files, const std::filesystem::path& directory);

}  // namespace cortex
