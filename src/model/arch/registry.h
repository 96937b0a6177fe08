// The architectures this build knows. Each has one file beside this one that reads its configuration into a spec and
// maps its tensors to slots; a backend never learns which one it was. Stateless; any thread.
#pragma once

#include <string_view>

#include "model/fields.h"
#include "model/model.h"
#include "model/tensor_map.h"

namespace cortex {

struct Architecture {
  std::string_view name;  // config.json's model_type, GGUF's general.architecture
  // Both throw Error invalid_config or invalid_weights; the caller refuses the tensors they leave.
  Network (*from_huggingface)(const Fields& config, TensorMap* tensors);
  Network (*from_gguf)(const Fields& metadata, TensorMap* tensors);  // nullptr: encoders, not supported as GGUF
};

// The one that `field` names. Throws Error invalid_config with those supported.
const Architecture& architecture_of(const Fields& fields, std::string_view field);

}  // namespace cortex
