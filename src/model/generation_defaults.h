// How a model's makers want it to be sampled, as generation_config.json and GGUF metadata say. Stateless; any thread.
#pragma once

#include <string_view>

#include "model/fields.h"
#include "model/model.h"

namespace cortex {

// What a file calls each of GenerationDefaults; no name: such files never say it.
struct GenerationFields {
  std::string_view temperature, top_p, min_p, repetition_penalty, top_k, do_sample = {};
};

inline constexpr GenerationFields kGenerationConfigFields = {.temperature = "temperature",
                                                             .top_p = "top_p",
                                                             .min_p = "min_p",
                                                             .repetition_penalty = "repetition_penalty",
                                                             .top_k = "top_k",
                                                             .do_sample = "do_sample"};
inline constexpr GenerationFields kGgufGenerationFields = {.temperature = "general.sampling.temp",
                                                           .top_p = "general.sampling.top_p",
                                                           .min_p = "general.sampling.min_p",
                                                           .repetition_penalty = "general.sampling.penalty_repeat",
                                                           .top_k = "general.sampling.top_k"};

// Throws Error with the code of `fields` for a value that no request may have.
GenerationDefaults read_generation(const Fields& fields, const GenerationFields& names);

}  // namespace cortex
