#include "model/arch/decoder_parts.h"

#include <fmt/core.h>

#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "model/arch/limits.h"

namespace cortex {
namespace {

constexpr double kLeastPositive = 1e-30;
constexpr double kMaxTheta = 1e12;
constexpr double kMaxRopeFactor = 1e6;

void check_heads(const Fields& fields, std::string_view kv_field, const DecoderSpec& spec) {
  if (spec.heads % spec.kv_heads != 0) {
    fields.fail(kv_field, fmt::format("{} does not divide the {} attention heads", spec.kv_heads, spec.heads));
  }
}

// Where no head size is given, the heads share the hidden size.
int default_head_dim(const Fields& fields, std::string_view heads_field, const DecoderSpec& spec) {
  if (spec.hidden % spec.heads != 0) {
    fields.fail(heads_field, fmt::format("{} heads do not divide the hidden size of {}", spec.heads, spec.hidden));
  }
  return spec.hidden / spec.heads;
}

void check_rope_dims(const Fields& fields, std::string_view field, const DecoderSpec& spec) {
  const int dims = spec.rope.dims;
  if (dims < 2 || dims % 2 != 0 || dims > spec.head_dim) {
    fields.fail(field,
                fmt::format("rope turns {} elements of a head; an even number from 2 to {}", dims, spec.head_dim));
  }
}

void read_llama3_scaling(const Fields& scaling, RopeSpec* rope) {
  rope->low_frequency_factor = scaling.number("low_freq_factor", kLeastPositive, kMaxRopeFactor);
  rope->high_frequency_factor = scaling.number("high_freq_factor", kLeastPositive, kMaxRopeFactor);
  rope->original_context = scaling.integer("original_max_position_embeddings", 1, kMaxContext);
  if (rope->high_frequency_factor <= rope->low_frequency_factor) {
    scaling.fail("high_freq_factor", fmt::format("{} is not above low_freq_factor, {}", rope->high_frequency_factor,
                                                 rope->low_frequency_factor));
  }
}

// What stands there for a type that isn't named can't be guessed, and must not be passed over.
void check_untyped(const Fields& scaling) {
  for (const auto& [name, value] : scaling.entries()) {
    if (value.is_null() || name == "rope_theta" || name == "partial_rotary_factor") continue;
    scaling.fail(name, describe(value) + " stands without a rope_type; one of default, linear, llama3");
  }
}

// `scaling` is rope_parameters or the older rope_scaling, which call the type "rope_type", or "type" in the oldest
// files.
void read_scaling(const Fields& scaling, RopeSpec* rope) {
  const std::string_view field = scaling.contains("rope_type") ? "rope_type" : "type";
  const std::string* type = scaling.find_text(field);
  if (!type) return check_untyped(scaling);
  if (*type == "default") return;
  if (*type == "linear") {
    rope->scaling = RopeSpec::Scaling::linear;
  } else if (*type == "llama3") {
    rope->scaling = RopeSpec::Scaling::llama3;
    read_llama3_scaling(scaling, rope);
  } else {
    scaling.fail(field, fmt::format("{} is not supported; one of default, linear, llama3", quote(*type)));
  }
  rope->factor = scaling.number("factor", kLeastPositive, kMaxRopeFactor);
}

RopeSpec read_rope(const Fields& config, int head_dim) {
  RopeSpec rope;
  const Fields* parameters = config.find_object("rope_parameters");
  const Fields& theta_holder = parameters && parameters->contains("rope_theta") ? *parameters : config;
  rope.theta = theta_holder.find_number("rope_theta", 1.0, kMaxTheta).value_or(rope.theta);
  const Fields& partial_holder = parameters && parameters->contains("partial_rotary_factor") ? *parameters : config;
  const float partial = partial_holder.find_number("partial_rotary_factor", 0.0, 1.0).value_or(1.0f);
  rope.dims = static_cast<int>(static_cast<float>(head_dim) * partial);
  const Fields* scaling = parameters ? parameters : config.find_object("rope_scaling");
  if (scaling) read_scaling(*scaling, &rope);
  return rope;
}

// A scale that changes nothing is as good as none; any other fails with `what`.
void check_scale_is_one(const Fields& metadata, const std::string& key, std::string_view what) {
  const auto scale = metadata.find_number(key, kLeastPositive, kMaxRopeFactor);
  if (scale && *scale != 1.0f) metadata.fail(key, fmt::format("{} {}", *scale, what));
}

void read_gguf_rope(const Fields& metadata, const std::string& prefix, DecoderSpec* spec) {
  RopeSpec& rope = spec->rope;
  rope.theta = metadata.find_number(prefix + "rope.freq_base", 1.0, kMaxTheta).value_or(rope.theta);
  rope.dims = metadata.find_integer(prefix + "rope.dimension_count", 2, kMaxHeadDim).value_or(spec->head_dim);
  const bool stated = metadata.contains(prefix + "rope.dimension_count");
  check_rope_dims(metadata, prefix + (stated ? "rope.dimension_count" : "attention.key_length"), *spec);
  const std::string type_key = prefix + "rope.scaling.type";
  check_scale_is_one(metadata, prefix + "rope.scale_linear", "is not supported; only 1");
  const std::string* type = metadata.find_text(type_key);
  if (!type) return check_scale_is_one(metadata, prefix + "rope.scaling.factor", "stands without " + type_key);
  if (*type == "none") return;
  if (*type != "linear") {
    metadata.fail(type_key, fmt::format("{} is not supported; one of none, linear", quote(*type)));
  }
  rope.scaling = RopeSpec::Scaling::linear;
  rope.factor = metadata.number(prefix + "rope.scaling.factor", kLeastPositive, kMaxRopeFactor);
}

class LayerTaker {
 public:
  LayerTaker(std::string prefix, TensorMap* tensors) : prefix_(std::move(prefix)), tensors_(*tensors) {}

  Weight weight(std::string_view name, const TensorMap::Shape& shape) {
    return tensors_.take(fmt::format("{}{}.weight", prefix_, name), shape);
  }
  std::optional<Weight> bias(bool wanted, std::string_view name, std::int64_t size) {
    if (!wanted) return std::nullopt;
    return tensors_.take(fmt::format("{}{}.bias", prefix_, name), {size});
  }

 private:
  std::string prefix_;
  TensorMap& tensors_;
};

DecoderLayerWeights take_layer(const DecoderSpec& spec, const DecoderTensorNames& names, LayerTaker take) {
  const std::int64_t hidden = spec.hidden;
  const std::int64_t query = std::int64_t{spec.heads} * spec.head_dim;
  const std::int64_t kv = std::int64_t{spec.kv_heads} * spec.head_dim;
  DecoderLayerWeights layer;
  layer.attention_norm = take.weight(names.attention_norm, {hidden});
  layer.mlp_norm = take.weight(names.mlp_norm, {hidden});
  layer.query = take.weight(names.query, {query, hidden});
  layer.key = take.weight(names.key, {kv, hidden});
  layer.value = take.weight(names.value, {kv, hidden});
  layer.output = take.weight(names.output, {hidden, query});
  layer.gate = take.weight(names.gate, {spec.intermediate, hidden});
  layer.up = take.weight(names.up, {spec.intermediate, hidden});
  layer.down = take.weight(names.down, {hidden, spec.intermediate});
  layer.query_bias = take.bias(spec.qkv_bias, names.query, query);
  layer.key_bias = take.bias(spec.qkv_bias, names.key, kv);
  layer.value_bias = take.bias(spec.qkv_bias, names.value, kv);
  layer.output_bias = take.bias(spec.output_bias, names.output, hidden);
  layer.gate_bias = take.bias(spec.mlp_bias, names.gate, spec.intermediate);
  layer.up_bias = take.bias(spec.mlp_bias, names.up, spec.intermediate);
  layer.down_bias = take.bias(spec.mlp_bias, names.down, hidden);
  return layer;
}

}  // namespace

const DecoderTensorNames kHuggingFaceDecoderNames = {
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .head = "lm_head",
    .layers = "model.layers.",
    .attention_norm = "input_layernorm",
    .mlp_norm = "post_attention_layernorm",
    .query = "self_attn.q_proj",
    .key = "self_attn.k_proj",
    .value = "self_attn.v_proj",
    .output = "self_attn.o_proj",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
};

const DecoderTensorNames kGgufDecoderNames = {
    .embedding = "token_embd",
    .final_norm = "output_norm",
    .head = "output",
    .layers = "blk.",
    .attention_norm = "attn_norm",
    .mlp_norm = "ffn_norm",
    .query = "attn_q",
    .key = "attn_k",
    .value = "attn_v",
    .output = "attn_output",
    .gate = "ffn_gate",
    .up = "ffn_up",
    .down = "ffn_down",
};

DecoderSpec read_decoder_config(const Fields& config) {
  DecoderSpec spec;
  spec.architecture = config.text("model_type");
  spec.vocabulary = config.integer("vocab_size", 1, kMaxVocabulary);
  spec.hidden = config.integer("hidden_size", 1, kMaxHidden);
  spec.heads = config.integer("num_attention_heads", 1, kMaxHeads);
  spec.kv_heads = config.find_integer("num_key_value_heads", 1, kMaxHeads).value_or(spec.heads);
  spec.intermediate = config.integer("intermediate_size", 1, kMaxIntermediate);
  spec.context_tokens = config.integer("max_position_embeddings", 1, kMaxContext);
  spec.norm_epsilon = config.find_number("rms_norm_eps", kLeastPositive, 1.0).value_or(1e-6f);
  spec.activation = read_activation(config, "hidden_act", Activation::silu);
  spec.tied_head = config.find_boolean("tie_word_embeddings").value_or(false);
  spec.layers.resize(static_cast<std::size_t>(config.integer("num_hidden_layers", 1, kMaxLayers)));
  check_heads(config, "num_key_value_heads", spec);
  const auto head_dim = config.find_integer("head_dim", 1, kMaxHeadDim);
  spec.head_dim = head_dim ? *head_dim : default_head_dim(config, "num_attention_heads", spec);
  spec.rope = read_rope(config, spec.head_dim);
  check_rope_dims(config, "head_dim", spec);
  return spec;
}

DecoderSpec read_decoder_metadata(const Fields& metadata, std::string_view architecture, const TensorMap& tensors) {
  const std::string prefix = std::string(architecture) + ".";
  DecoderSpec spec;
  spec.architecture = architecture;
  const std::string embedding = std::string(kGgufDecoderNames.embedding) + ".weight";
  const auto stated = metadata.find_integer(prefix + "vocab_size", 1, kMaxVocabulary);
  const std::int64_t rows = tensors.rows(embedding);
  if (rows < 1 || rows > kMaxVocabulary) {
    metadata.fail(prefix + "vocab_size", fmt::format("the embedding has {} rows; 1 to {}", rows, kMaxVocabulary));
  }
  spec.vocabulary = static_cast<int>(rows);
  if (stated && *stated != rows) {
    metadata.fail(prefix + "vocab_size", fmt::format("{}, but {} has {} rows", *stated, embedding, rows));
  }
  spec.hidden = metadata.integer(prefix + "embedding_length", 1, kMaxHidden);
  spec.heads = metadata.integer(prefix + "attention.head_count", 1, kMaxHeads);
  spec.kv_heads = metadata.find_integer(prefix + "attention.head_count_kv", 1, kMaxHeads).value_or(spec.heads);
  spec.intermediate = metadata.integer(prefix + "feed_forward_length", 1, kMaxIntermediate);
  spec.context_tokens = metadata.integer(prefix + "context_length", 1, kMaxContext);
  spec.norm_epsilon = metadata.number(prefix + "attention.layer_norm_rms_epsilon", kLeastPositive, 1.0);
  spec.layers.resize(static_cast<std::size_t>(metadata.integer(prefix + "block_count", 1, kMaxLayers)));
  spec.tied_head = !tensors.contains(std::string(kGgufDecoderNames.head) + ".weight");
  check_heads(metadata, prefix + "attention.head_count_kv", spec);
  const auto head_dim = metadata.find_integer(prefix + "attention.key_length", 1, kMaxHeadDim);
  spec.head_dim = head_dim ? *head_dim : default_head_dim(metadata, prefix + "attention.head_count", spec);
  read_gguf_rope(metadata, prefix, &spec);
  return spec;
}

DecoderWeights take_decoder_weights(const DecoderSpec& spec, const DecoderTensorNames& names, TensorMap* tensors) {
  LayerTaker take("", tensors);
  DecoderWeights weights;
  weights.embedding = take.weight(names.embedding, {spec.vocabulary, spec.hidden});
  weights.final_norm = take.weight(names.final_norm, {spec.hidden});
  if (!spec.tied_head) weights.head = take.weight(names.head, {spec.vocabulary, spec.hidden});
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    weights.layers.push_back(take_layer(spec, names, LayerTaker(fmt::format("{}{}.", names.layers, i), tensors)));
  }
  return weights;
}

void check_vocabulary(const Fields& config, int vocabulary, const std::string& embedding, const TensorMap& tensors) {
  const std::int64_t rows = tensors.rows(embedding);
  if (rows != vocabulary) config.fail("vocab_size", fmt::format("{}, but {} has {} rows", vocabulary, embedding, rows));
}

Activation read_activation(const Fields& config, std::string_view field, Activation fallback) {
  constexpr std::array<std::pair<std::string_view, Activation>, 6> kNames = {
      {{"silu", Activation::silu},
       {"swish", Activation::silu},
       {"gelu", Activation::gelu},
       {"gelu_new", Activation::gelu_tanh},
       {"gelu_fast", Activation::gelu_tanh},
       {"gelu_pytorch_tanh", Activation::gelu_tanh}}};
  const std::string* name = config.find_text(field);
  if (!name) return fallback;
  std::string known;
  for (const auto& [written, activation] : kNames) {
    if (*name == written) return activation;
    known.append(known.empty() ? "" : ", ").append(written);
  }
  config.fail(field, fmt::format("{} is not supported; one of {}", quote(*name), known));
}

}  // namespace cortex
