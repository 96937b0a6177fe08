// Llama 2 and 3 and what is built like them (SmolLM2, TinyLlama, in GGUF also Mistral): pre-norm, grouped-query
// attention, SwiGLU.
#include <fmt/core.h>

#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/decoder_tensors.h"
#include "model/arch/limits.h"
#include "model/arch/rope_fields.h"

namespace cortex {
namespace {

// GGUF's llama interleaves the rows of whole heads for rope; over a part of one its order would mean something else.
void check_interleaving(const Fields& metadata, const DecoderSpec& spec) {
  if (spec.rope.dims != spec.head_dim) {
    metadata.fail("llama.rope.dimension_count",
                  fmt::format("{} of heads of {} elements; rope over a part of a head is not supported in GGUF",
                              spec.rope.dims, spec.head_dim));
  }
}

void refuse_experts(const Fields& metadata) {
  constexpr const char* kKey = "llama.expert_count";
  const int count = metadata.find_integer(kKey, 0, kMaxExperts).value_or(0);
  if (count > 0) metadata.fail(kKey, fmt::format("{} experts; Mixtral is not supported, only models without", count));
}

}  // namespace

Network llama_from_huggingface(const Fields& config, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_config(config);
  spec.rope = read_rope(config, spec.head_dim);
  spec.qkv_bias = spec.output_bias = config.find_boolean("attention_bias").value_or(false);
  spec.mlp_bias = config.find_boolean("mlp_bias").value_or(false);
  return take_huggingface_decoder(config, std::move(spec), huggingface_decoder_names(*tensors), tensors);
}

Network llama_from_gguf(const Fields& metadata, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_metadata(metadata, "llama", *tensors);
  check_interleaving(metadata, spec);
  refuse_experts(metadata);
  spec.rope.divisors = take_rope_divisors(spec.rope.dims, tensors);
  spec.qkv_bias = tensors->contains("blk.0.attn_q.bias");
  spec.output_bias = tensors->contains("blk.0.attn_output.bias");
  spec.mlp_bias = tensors->contains("blk.0.ffn_gate.bias");
  DecoderWeights weights = take_decoder_weights(spec, kGgufDecoderNames, tensors);
  for (DecoderLayerWeights& layer : weights.layers) {
    layer.query.interleaved_heads = spec.heads;
    layer.key.interleaved_heads = spec.kv_heads;
    if (layer.query_bias) layer.query_bias->interleaved_heads = spec.heads;
    if (layer.key_bias) layer.key_bias->interleaved_heads = spec.kv_heads;
  }
  return DecoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
