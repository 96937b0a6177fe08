// The architectures this build knows. Each has one file beside this one that reads its configuration into a spec and
// maps its tensors to slots; a backend never learns which one it was. Stateless; any thread.
#pragma once

#include <string_view>

#include "model/fields.h"
#include "model/model.h"
#include "model/tensor_map.h"

namespace cortex {

struct Architecture {
  std::string_view model_type;  // config.json's; nothing: not of safetensors
  Network (*from_huggingface)(const Fields& config, TensorMap* tensors);
  std::string_view gguf_name;  // general.architecture; nothing: not as GGUF
  Network (*from_gguf)(const Fields& metadata, TensorMap* tensors);
  // Both throw Error invalid_config or invalid_weights; the caller refuses the tensors they leave.
};

// The one of config.json's model_type, of GGUF's general.architecture. Throw Error invalid_config with those supported.
const Architecture& huggingface_architecture(const Fields& config);
const Architecture& gguf_architecture(const Fields& metadata);

}  // namespace cortex
