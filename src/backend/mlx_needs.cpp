#include "backend/mlx_needs.h"

#include <algorithm>

#include "backend/step_plan.h"

namespace cortex {
namespace {

constexpr std::uint64_t kFloatBytes = 4;
// Arrays as wide as each of these that a layer has alive at a time.
constexpr int kHiddenArrays = 8;
constexpr int kProjectedArrays = 2;
constexpr int kInnerArrays = 4;

std::uint64_t bytes_of(const Weight& weight) { return static_cast<std::uint64_t>(weight.elements()) * kFloatBytes; }

std::uint64_t bytes_of(const std::optional<Weight>& weight) { return weight ? bytes_of(*weight) : 0; }

std::uint64_t bytes_of(const Linear& linear) { return bytes_of(linear.weight) + bytes_of(linear.bias); }

std::uint64_t bytes_of(const LayerNorm& norm) { return bytes_of(norm.weight) + bytes_of(norm.bias); }

template <typename Part>
std::uint64_t bytes_of(const std::optional<Part>& part) {
  return part ? bytes_of(*part) : 0;
}

std::uint64_t bytes_of(const DecoderLayerWeights& layer) {
  std::uint64_t bytes = bytes_of(layer.query) + bytes_of(layer.key) + bytes_of(layer.value) + bytes_of(layer.output);
  for (const std::optional<Weight>* part :
       {&layer.attention_norm, &layer.mlp_norm, &layer.attention_post_norm, &layer.mlp_post_norm, &layer.query_norm,
        &layer.key_norm, &layer.gate, &layer.up, &layer.down, &layer.router, &layer.query_bias, &layer.key_bias,
        &layer.value_bias, &layer.output_bias, &layer.gate_bias, &layer.up_bias, &layer.down_bias}) {
    bytes += bytes_of(*part);
  }
  for (const ExpertWeights& expert : layer.experts) {
    bytes += bytes_of(expert.gate) + bytes_of(expert.up) + bytes_of(expert.down);
  }
  return bytes;
}

std::uint64_t scratch_bytes(int rows, int hidden, int projected, int inner) {
  const int floats = kHiddenArrays * hidden + kProjectedArrays * projected + kInnerArrays * inner;
  return static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(floats) * kFloatBytes + kCacheBytes;
}

}  // namespace

std::optional<std::string> mlx_lacks(const DecoderHolding& holding) {
  if (holding.weights != WeightPrecision::as_given) return "weights of fewer bits than the files have";
  if (holding.kv_8_bits) return "8-bit KV";
  if (holding.resident_layers != kAllLayers) return "layers that are read from disk";
  return std::nullopt;
}

DecoderNeeds mlx_needs(const DecoderSpec& spec, const DecoderWeights& weights, const DecoderHolding& holding) {
  DecoderNeeds needs;
  needs.fixed_bytes = bytes_of(weights.embedding) + bytes_of(weights.final_norm) + bytes_of(weights.head);
  for (const DecoderLayerWeights& layer : weights.layers) needs.layer_bytes.push_back(bytes_of(layer));
  needs.kv_block_bytes = needs.kv_kept_bytes = 2 * kFloatBytes * spec.layers.size() * kBlockTokens *
                                               static_cast<std::uint64_t>(spec.kv_heads) *
                                               static_cast<std::uint64_t>(spec.head_dim);
  const int inner = spec.experts ? spec.experts->per_token * spec.experts->intermediate : spec.intermediate;
  const int projected = (spec.heads + 2 * spec.kv_heads) * spec.head_dim;
  const auto rows = static_cast<std::uint64_t>(holding.rows_per_step);
  needs.step_bytes =
      scratch_bytes(holding.rows_per_step, spec.hidden, projected, inner) +
      std::min<std::uint64_t>(kLogitBytes, rows * static_cast<std::uint64_t>(spec.vocabulary) * kFloatBytes);
  return needs;
}

EncoderNeeds mlx_needs(const EncoderSpec& spec, const EncoderWeights& weights) {
  EncoderNeeds needs;
  needs.weight_bytes = bytes_of(weights.token_embedding) + bytes_of(weights.position_embedding) +
                       bytes_of(weights.type_embedding) + bytes_of(weights.embedding_norm) +
                       bytes_of(weights.final_norm);
  for (const EncoderLayerWeights& layer : weights.layers) {
    for (const Linear* linear : {&layer.query, &layer.key, &layer.value, &layer.output, &layer.up, &layer.down}) {
      needs.weight_bytes += bytes_of(*linear);
    }
    needs.weight_bytes += bytes_of(layer.gate) + bytes_of(layer.attention_norm) + bytes_of(layer.mlp_norm);
  }
  if (weights.head) {
    needs.weight_bytes += bytes_of(weights.head->dense) + bytes_of(weights.head->norm) + bytes_of(weights.head->out);
  }
  needs.step_bytes = scratch_bytes(spec.context_tokens, spec.hidden, 3 * spec.heads * spec.head_dim, spec.intermediate);
  return needs;
}

}  // namespace cortex
