// Gemma 3's text models: norms before and after attention and feed-forward, windows in most layers with a rope of
// their own, and norms that store their weights less one.
#include <fmt/core.h>

#include <cmath>
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/decoder_tensors.h"
#include "model/arch/limits.h"
#include "model/arch/rope_fields.h"

namespace cortex {
namespace {

constexpr int kDefaultPattern = 6;  // of so many layers the last one attends to everything
constexpr float kDefaultTheta = 1e6f;
constexpr float kDefaultWindowTheta = 1e4f;

constexpr LayerRopeFields kFullRope = {
    .layer_type = kFullAttention, .theta_field = "rope_theta", .default_theta = kDefaultTheta};
constexpr LayerRopeFields kWindowRope = {.layer_type = kSlidingAttention,
                                         .theta_field = "rope_local_base_freq",
                                         .default_theta = kDefaultWindowTheta,
                                         .scaled = false};

void refuse_what_is_not_supported(const Fields& config) {
  for (const char* field : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (const Value* cap = config.find(field)) {
      config.fail(field, describe(*cap) + ": soft caps are not supported; only null, as Gemma 3's own models have it");
    }
  }
  constexpr const char* kBothWays = "use_bidirectional_attention";
  if (config.find_boolean(kBothWays).value_or(false)) config.fail(kBothWays, "true is not supported; only false");
}

void read_attention(const Fields& config, DecoderSpec* spec) {
  spec->query_key_norm = QueryKeyNorm::per_head;
  spec->qkv_bias = spec->output_bias = config.find_boolean("attention_bias").value_or(false);
  const float scalar = config.find_number("query_pre_attn_scalar", 1e-6, 1e6).value_or(256.0f);
  spec->attention_scale = 1.0f / std::sqrt(scalar);
  const int window = config.find_integer("sliding_window", 1, kMaxContext).value_or(4096);
  const char* field = config.contains("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
  const int pattern = config.find_integer(field, 1, kMaxLayers).value_or(kDefaultPattern);
  read_windows(config, window, [&](int layer) { return (layer + 1) % pattern != 0; }, spec);
  spec->rope = read_layer_rope(config, kFullRope, spec->head_dim);
  spec->window_rope = read_layer_rope(config, kWindowRope, spec->head_dim);
}

// The value with so many significant bits, ties to even.
float rounded(float value, int bits) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(value, bits - exponent)), exponent - bits);
}

// sqrt(hidden) in the precision that the embedding is stored in, as it was trained.
float embedding_scale(int hidden, DType stored) {
  constexpr int kBfloat16Bits = 8;
  constexpr int kFloat16Bits = 11;
  const float exact = std::sqrt(static_cast<float>(hidden));
  if (stored == DType::bf16) return rounded(exact, kBfloat16Bits);
  return stored == DType::f16 ? rounded(exact, kFloat16Bits) : exact;
}

void add_one_to_norms(DecoderWeights* weights) {
  weights->final_norm.plus = 1.0f;
  for (DecoderLayerWeights& layer : weights->layers) {
    for (auto* norm : {&layer.attention_norm, &layer.mlp_norm, &layer.attention_post_norm, &layer.mlp_post_norm,
                       &layer.query_norm, &layer.key_norm}) {
      (*norm)->plus = 1.0f;
    }
  }
}

// The pattern is a number, or true for each layer that slides.
void read_gguf_windows(const Fields& metadata, DecoderSpec* spec) {
  constexpr const char* kPattern = "gemma3.attention.sliding_window_pattern";
  const Value* value = metadata.find(kPattern);
  const auto* listed = value ? value->as<Value::Array>() : nullptr;
  if (listed && listed->size() != spec->layers.size()) {
    metadata.fail(kPattern, fmt::format("{} values for {} layers", listed->size(), spec->layers.size()));
  }
  const int pattern = listed ? 0 : metadata.find_integer(kPattern, 1, kMaxLayers).value_or(kDefaultPattern);
  for (std::size_t i = 0; i < spec->layers.size(); ++i) {
    const bool* slides = listed ? (*listed)[i].as<bool>() : nullptr;
    if (listed && !slides) metadata.fail(kPattern, describe((*listed)[i]) + " in the array is not true or false");
    const bool full = listed ? !*slides : (i + 1) % static_cast<std::size_t>(pattern) == 0;
    if (full) spec->layers[i] = {};
  }
}

// The file does not say it: heads of the 27B share the hidden size, though they are of another.
float gguf_attention_scale(const DecoderSpec& spec) {
  constexpr std::size_t kLayersOf27B = 62;
  const int size = spec.layers.size() == kLayersOf27B ? spec.hidden / spec.heads : spec.head_dim;
  return 1.0f / std::sqrt(static_cast<float>(size));
}

}  // namespace

Network gemma3_from_huggingface(const Fields& config, TensorMap* tensors) {
  refuse_what_is_not_supported(config);
  DecoderSpec spec = read_decoder_config(config, {.head_dim = 256,
                                                  .tied_head = true,
                                                  .activation_field = "hidden_activation",
                                                  .activation = Activation::gelu_tanh});
  spec.post_norm = true;
  read_attention(config, &spec);
  DecoderTensorNames names = huggingface_decoder_names(*tensors);
  names.attention_post_norm = "post_attention_layernorm";
  names.mlp_norm = "pre_feedforward_layernorm";
  names.mlp_post_norm = "post_feedforward_layernorm";
  DecoderModel model = take_huggingface_decoder(config, std::move(spec), names, tensors);
  const Weight& embedding = model.weights.embedding;
  const DType stored = embedding.groups ? embedding.groups->scales.dtype : embedding.tensor.dtype;
  model.spec.embedding_scale = embedding_scale(model.spec.hidden, stored);
  add_one_to_norms(&model.weights);
  return model;
}

// Norms are stored as they are used here.
Network gemma3_from_gguf(const Fields& metadata, TensorMap* tensors) {
  constexpr const char* kCap = "gemma3.final_logit_softcapping";
  if (metadata.find_number(kCap, 0.0, 1e6).value_or(0.0f) != 0.0f) {
    metadata.fail(kCap, describe(*metadata.find(kCap)) + ": soft caps are not supported; only 0");
  }
  DecoderSpec spec = read_decoder_metadata(metadata, "gemma3", *tensors);
  spec.post_norm = true;
  spec.query_key_norm = QueryKeyNorm::per_head;
  spec.activation = Activation::gelu_tanh;
  spec.attention_scale = gguf_attention_scale(spec);
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.hidden));
  read_gguf_windows(metadata, &spec);
  spec.window_rope =
      RopeSpec{.theta = metadata.find_number("gemma3.rope.freq_base_swa", 1.0, kMaxTheta).value_or(kDefaultWindowTheta),
               .dims = spec.rope.dims};
  DecoderWeights weights = take_decoder_weights(spec, kGgufDecoderNames, tensors);
  return DecoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
