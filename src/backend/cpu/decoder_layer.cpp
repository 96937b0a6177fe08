#include "backend/cpu/decoder_layer.h"

namespace cortex {
namespace {

std::variant<CpuFeedForward, CpuExperts> read_mlp(const DecoderSpec& spec, bool with_experts,
                                                  const DecoderLayerWeights& weights, WeightLoader& loader,
                                                  Arithmetic arithmetic) {
  if (with_experts) return CpuExperts(loader, arithmetic, spec.experts.value(), spec.activation, weights);
  return CpuFeedForward(loader, arithmetic, spec.activation, LinearView(weights.gate.value(), weights.gate_bias),
                        {weights.up.value(), weights.up_bias}, {weights.down.value(), weights.down_bias});
}

}  // namespace

DecoderLayer::DecoderLayer(const DecoderSpec& spec, bool with_experts, const DecoderLayerWeights& weights,
                           WeightLoader& loader, Arithmetic arithmetic)
    : attention_norms{loader.vector(weights.attention_norm), loader.vector(weights.attention_post_norm)},
      mlp_norms{loader.vector(weights.mlp_norm), loader.vector(weights.mlp_post_norm)},
      attention(loader, arithmetic, weights),
      mlp(read_mlp(spec, with_experts, weights, loader, arithmetic)) {}

}  // namespace cortex
