// The index of a model whose weights are several safetensors files: which file holds which tensor. Index and files must
// agree to the last tensor. Any thread.
#pragma once

#include <string>
#include <vector>

#include "model/model_folder.h"
#include "model/tensor_view.h"

namespace cortex {

constexpr const char* kSafetensorsIndexFile = "model.safetensors.index.json";

// The tensors of all files that the index `text` names; each file is opened once. Throws Error invalid_path when it
// names one out of the folder, invalid_weights when a file is missing, lacks a tensor the index says it holds, or holds
// one the index does not say it holds, and as read_safetensors.
std::vector<TensorView> read_indexed_safetensors(const ModelFolder& folder, const std::string& text);

}  // namespace cortex
