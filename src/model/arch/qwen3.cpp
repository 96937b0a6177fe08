// Qwen3, chat models, embedders and rerankers alike: Llama's layers with a norm over each head of queries and keys.
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/decoder_tensors.h"
#include "model/arch/rope_fields.h"

namespace cortex {

Network qwen3_from_huggingface(const Fields& config, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_config(config, {.head_dim = 128});
  spec.rope = read_rope(config, spec.head_dim);
  spec.query_key_norm = QueryKeyNorm::per_head;
  spec.qkv_bias = spec.output_bias = config.find_boolean("attention_bias").value_or(false);
  read_late_windows(config, &spec);
  return take_huggingface_decoder(config, std::move(spec), huggingface_decoder_names(*tensors), tensors);
}

Network qwen3_from_gguf(const Fields& metadata, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_metadata(metadata, "qwen3", *tensors);
  spec.query_key_norm = QueryKeyNorm::per_head;
  DecoderWeights weights = take_decoder_weights(spec, kGgufDecoderNames, tensors);
  return DecoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
