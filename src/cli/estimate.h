// Whether and how a model would fit into memory, in the words of POST /estimate and `cortex doctor`, told from its
// headers by engine/memory_plan. Any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/file_system.h"
#include "cli/model_path.h"
#include "engine/engine_options.h"
#include "engine/memory_plan.h"
#include "service/memory_estimate.h"

namespace cortex {

// `ceiling_bytes` is what holds where options give no budget. Throws as estimate_memory() of engine/memory_plan.
MemoryEstimate estimate_model(const std::filesystem::path& model, const EstimateOptions& options,
                              std::uint64_t ceiling_bytes);

// What a client may ask about: a configured model by its name, one that is kept in `places` by its own, or a path
// there, absolute or relative to one of them. Throws Error invalid_value for what leads out of them, links followed,
// and model_not_found for what is not there.
std::filesystem::path find_askable_model(const FileSystem& files, const ModelPlaces& places,
                                         const std::vector<ModelConfig>& configured, const std::string& text);

// What the front is given. `cache_bytes`: of embeddings, as MemoryEstimate has them.
EstimateMemory memory_estimator(const FileSystem& files, ModelPlaces places, EngineOptions engine,
                                std::uint64_t cache_bytes);

}  // namespace cortex
