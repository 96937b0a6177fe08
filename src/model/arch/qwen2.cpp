// Qwen2 and Qwen2.5: Llama's layers with biases on queries, keys and values.
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/decoder_tensors.h"
#include "model/arch/rope_fields.h"

namespace cortex {

Network qwen2_from_huggingface(const Fields& config, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_config(config);
  spec.rope = read_rope(config, spec.head_dim);
  spec.qkv_bias = true;
  read_late_windows(config, &spec);
  return take_huggingface_decoder(config, std::move(spec), huggingface_decoder_names(*tensors), tensors);
}

Network qwen2_from_gguf(const Fields& metadata, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_metadata(metadata, "qwen2", *tensors);
  spec.qkv_bias = true;
  DecoderWeights weights = take_decoder_weights(spec, kGgufDecoderNames, tensors);
  return DecoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
