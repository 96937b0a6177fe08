#include "backend/cpu/encoder_parts.h"

#include <array>

#include "backend/cpu/attention_task.h"

namespace cortex {
namespace {

using Norm = EncoderParts::Norm;

// Only looked up, so floats stay as exact as they are unless they are to take less.
PackedMatrix read_table(const Weight& weight, WeightLoader& loader, WeightPrecision precision) {
  const bool as_given = precision == WeightPrecision::as_given;
  return loader.matrix(std::array{&weight}, as_given ? FloatPacking::f32 : FloatPacking::codes8);
}

PackedMatrix read_table(const std::optional<Weight>& weight, WeightLoader& loader, WeightPrecision precision) {
  return weight ? read_table(*weight, loader, precision) : PackedMatrix{};
}

Norm read_norm(const LayerNorm& norm, WeightLoader& loader) {
  const Vector weight = loader.vector(norm.weight);
  return {weight, norm.bias ? loader.vector(*norm.bias) : loader.zeros(weight.size)};
}

std::optional<Norm> read_norm(const std::optional<LayerNorm>& norm, WeightLoader& loader) {
  return norm ? std::optional(read_norm(*norm, loader)) : std::nullopt;
}

EncoderParts::Layer read_layer(const EncoderSpec& spec, const EncoderLayerWeights& weights, WeightLoader& loader,
                               Arithmetic arithmetic) {
  const std::optional<LinearView> gate = weights.gate ? std::optional<LinearView>(*weights.gate) : std::nullopt;
  return {.attention_norm = read_norm(weights.attention_norm, loader),
          .query_key_value = Projection(loader, arithmetic, {weights.query, weights.key, weights.value}),
          .output = Projection(loader, arithmetic, {weights.output}),
          .mlp_norm = read_norm(weights.mlp_norm, loader),
          .mlp = CpuFeedForward(loader, arithmetic, spec.activation, gate, weights.up, weights.down)};
}

// A classifier's head is small: exact.
EncoderParts::Head read_head(const EncoderHeadWeights& weights, WeightLoader& loader) {
  EncoderParts::Head head{.dense = {},
                          .norm = read_norm(weights.norm, loader),
                          .out = Projection(loader, Arithmetic::exact, {weights.out})};
  if (weights.dense) head.dense = Projection(loader, Arithmetic::exact, {*weights.dense});
  return head;
}

}  // namespace

EncoderParts::EncoderParts(const EncoderSpec& spec, const EncoderWeights& weights, WeightLoader& loader,
                           WeightPrecision precision, Arithmetic arithmetic)
    : token_embedding(read_table(weights.token_embedding, loader, precision)),
      position_embedding(read_table(weights.position_embedding, loader, precision)),
      type_embedding(read_table(weights.type_embedding, loader, precision)),
      embedding_norm(read_norm(weights.embedding_norm, loader)) {
  for (const EncoderLayerWeights& layer : weights.layers) {
    layers.push_back(read_layer(spec, layer, loader, arithmetic));
  }
  final_norm = read_norm(weights.final_norm, loader);
  if (spec.head) head = read_head(weights.head.value(), loader);
}

std::optional<KvPrecision> encoder_kv_precision(const EncoderSpec& spec, Arithmetic arithmetic) {
  const bool fits = spec.head_dim % 2 == 0 && spec.head_dim <= kMostHeadDim;
  return arithmetic == Arithmetic::fast && fits ? std::optional(KvPrecision::bf16) : std::nullopt;
}

}  // namespace cortex
