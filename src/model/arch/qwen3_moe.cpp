// Qwen3's mixtures of experts: Qwen3's attention, and in most or all layers experts in place of the feed-forward.
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/decoder_tensors.h"
#include "model/arch/limits.h"
#include "model/arch/rope_fields.h"

namespace cortex {
namespace {

void check_per_token(const Fields& fields, std::string_view field, const ExpertsSpec& experts) {
  if (experts.per_token > experts.count) {
    fields.fail(field, fmt::format("{} is more than the {} experts", experts.per_token, experts.count));
  }
}

void check_total(const Fields& fields, std::string_view field, const DecoderSpec& spec) {
  const auto layers = std::count_if(spec.layers.begin(), spec.layers.end(),
                                    [](const DecoderLayerSpec& layer) { return layer.experts; });
  if (layers * spec.experts->count > kMaxModelExperts) {
    fields.fail(field, fmt::format("{} experts in each of {} layers are more than {} in all", spec.experts->count,
                                   layers, kMaxModelExperts));
  }
}

std::string_view count_field(const Fields& config) {
  return config.contains("num_local_experts") ? "num_local_experts" : "num_experts";
}

ExpertsSpec read_experts(const Fields& config) {
  ExpertsSpec experts;
  experts.count = config.integer(count_field(config), 1, kMaxExperts);
  experts.per_token = config.integer("num_experts_per_tok", 1, kMaxExperts);
  experts.intermediate = config.integer("moe_intermediate_size", 1, kMaxIntermediate);
  experts.normalised = config.find_boolean("norm_topk_prob").value_or(false);
  check_per_token(config, "num_experts_per_tok", experts);
  return experts;
}

// Every decoder_sparse_step'th layer has experts, but those that mlp_only_layers lists.
void read_sparse_layers(const Fields& config, DecoderSpec* spec) {
  constexpr std::string_view kDense = "mlp_only_layers";
  const int count = static_cast<int>(spec->layers.size());
  const int step = config.find_integer("decoder_sparse_step", 1, kMaxLayers).value_or(1);
  for (int i = 0; i < count; ++i) spec->layers[static_cast<std::size_t>(i)].experts = (i + 1) % step == 0;
  const auto* dense = config.find_array(kDense);
  if (!dense) return;
  for (const Value& entry : *dense) {
    const auto* index = entry.as<std::int64_t>();
    if (!index || *index < 0 || *index >= count) {
      config.fail(kDense, fmt::format("{} is not a layer from 0 to {}", describe(entry), count - 1));
    }
    spec->layers[static_cast<std::size_t>(*index)].experts = false;
  }
}

}  // namespace

Network qwen3_moe_from_huggingface(const Fields& config, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_config(config);
  spec.rope = read_rope(config, spec.head_dim);
  spec.query_key_norm = QueryKeyNorm::per_head;
  spec.qkv_bias = spec.output_bias = config.find_boolean("attention_bias").value_or(false);
  const bool windowed = config.find_boolean("use_sliding_window").value_or(false);
  const int window = windowed ? config.find_integer("sliding_window", 1, kMaxContext).value_or(0) : 0;
  read_windows(config, window, [&](int) { return window > 0; }, &spec);
  spec.experts = read_experts(config);
  read_sparse_layers(config, &spec);
  check_total(config, count_field(config), spec);
  return take_huggingface_decoder(config, std::move(spec), huggingface_decoder_names(*tensors), tensors);
}

// All layers have experts, whose probabilities are made to sum to 1.
Network qwen3_moe_from_gguf(const Fields& metadata, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_metadata(metadata, "qwen3moe", *tensors);
  spec.query_key_norm = QueryKeyNorm::per_head;
  spec.experts =
      ExpertsSpec{.count = metadata.integer("qwen3moe.expert_count", 1, kMaxExperts),
                  .per_token = metadata.integer("qwen3moe.expert_used_count", 1, kMaxExperts),
                  .intermediate = metadata.integer("qwen3moe.expert_feed_forward_length", 1, kMaxIntermediate),
                  .normalised = true};
  check_per_token(metadata, "qwen3moe.expert_used_count", *spec.experts);
  for (DecoderLayerSpec& layer : spec.layers) layer.experts = true;
  check_total(metadata, "qwen3moe.expert_count", spec);
  DecoderWeights weights = take_decoder_weights(spec, kGgufDecoderNames, tensors);
  return DecoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
