// Phi-3 with its context of 4096 and Phi-4, whose rope is plain: Llama's layers with fused query, key and value, and
// fused gate and up.
#include <fmt/core.h>

#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/decoder_tensors.h"
#include "model/arch/limits.h"
#include "model/arch/rope_fields.h"

namespace cortex {
namespace {

// Whatever Phi-3's files call it ("su", "yarn", "longrope"), they mean longrope.
void refuse_scaled_rope(const Fields& config) {
  for (const char* holder : {"rope_scaling", "rope_parameters"}) {
    const Fields* scaling = config.find_object(holder);
    if (!scaling) continue;
    const char* field = scaling->contains("rope_type") ? "rope_type" : "type";
    const std::string* type = scaling->find_text(field);
    if (!type || *type == "default") continue;
    scaling->fail(
        field, fmt::format("{}: longrope is not supported; Phi-3 models with plain rope (default) are", quote(*type)));
  }
}

}  // namespace

Network phi3_from_huggingface(const Fields& config, TensorMap* tensors) {
  refuse_scaled_rope(config);
  DecoderSpec spec = read_decoder_config(config, {.norm_epsilon = 1e-5f});
  spec.rope = read_rope(config, spec.head_dim);
  const int window = config.find_integer("sliding_window", 1, kMaxContext).value_or(0);
  read_windows(config, window, [&](int) { return window > 0; }, &spec);
  DecoderTensorNames names = huggingface_decoder_names(*tensors);
  names.fused_qkv = "self_attn.qkv_proj";
  names.fused_gate_up = "mlp.gate_up_proj";
  return take_huggingface_decoder(config, std::move(spec), names, tensors);
}

Network phi3_from_gguf(const Fields& metadata, TensorMap* tensors) {
  if (tensors->contains("rope_factors_long.weight")) {
    metadata.fail("general.architecture",
                  "\"phi3\" with rope_factors_long.weight: longrope is not supported; Phi-3 models "
                  "with plain rope are");
  }
  DecoderSpec spec = read_decoder_metadata(metadata, "phi3", *tensors);
  DecoderTensorNames names = kGgufDecoderNames;
  names.fused_qkv = "attn_qkv";
  names.fused_gate_up = names.up;
  DecoderWeights weights = take_decoder_weights(spec, names, tensors);
  return DecoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
