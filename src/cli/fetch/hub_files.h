// Which of a repository's files a model needs. Pure; any thread.
#pragma once

#include <vector>

#include "cli/fetch/hub.h"

namespace cortex {

// A .gguf file where one is named, is meant by its quantisation or is the only weights; else safetensors with the
// configuration, tokenizer and templates beside them. Never a pickle. Throws Error invalid_value with what there is to
// choose from, and model_not_found when there is nothing that could be loaded.
std::vector<HubFile> choose_files(const std::vector<HubFile>& files, const HubName& name);

}  // namespace cortex
