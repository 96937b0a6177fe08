#include "model/arch/decoder_parts.h"

#include <fmt/core.h>

#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "model/arch/decoder_tensors.h"
#include "model/arch/limits.h"
#include "model/arch/rope_fields.h"

namespace cortex {
namespace {

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

// Keys and values are of one size here.
int read_gguf_head_dim(const Fields& metadata, const std::string& prefix, const DecoderSpec& spec) {
  const std::string key = prefix + "attention.key_length";
  const std::string value = prefix + "attention.value_length";
  const auto stated = metadata.find_integer(key, 1, kMaxHeadDim);
  const int head_dim = stated ? *stated : default_head_dim(metadata, prefix + "attention.head_count", spec);
  const int value_dim = metadata.find_integer(value, 1, kMaxHeadDim).value_or(head_dim);
  if (value_dim != head_dim) {
    metadata.fail(value,
                  fmt::format("{}, but {} is {}; only heads of one size are supported", value_dim, key, head_dim));
  }
  return head_dim;
}

// 0 says that there is none.
void read_gguf_window(const Fields& metadata, const std::string& prefix, DecoderSpec* spec) {
  const int window = metadata.find_integer(prefix + "attention.sliding_window", 0, kMaxContext).value_or(0);
  if (window == 0) return;
  for (DecoderLayerSpec& layer : spec->layers) {
    layer = {.attention = AttentionKind::sliding_window, .window_tokens = window};
  }
}

}  // namespace

DecoderSpec read_decoder_config(const Fields& config, const DecoderDefaults& defaults) {
  DecoderSpec spec;
  spec.architecture = config.text("model_type");
  spec.vocabulary = config.integer("vocab_size", 1, kMaxVocabulary);
  spec.hidden = config.integer("hidden_size", 1, kMaxHidden);
  spec.heads = config.integer("num_attention_heads", 1, kMaxHeads);
  spec.kv_heads = config.find_integer("num_key_value_heads", 1, kMaxHeads).value_or(spec.heads);
  spec.intermediate = config.integer("intermediate_size", 1, kMaxIntermediate);
  spec.context_tokens = config.integer("max_position_embeddings", 1, kMaxContext);
  spec.norm_epsilon = config.find_number("rms_norm_eps", kLeastPositive, 1.0).value_or(defaults.norm_epsilon);
  spec.activation = read_activation(config, defaults.activation_field, defaults.activation);
  spec.tied_head = config.find_boolean("tie_word_embeddings").value_or(defaults.tied_head);
  spec.layers.resize(static_cast<std::size_t>(config.integer("num_hidden_layers", 1, kMaxLayers)));
  check_heads(config, "num_key_value_heads", spec);
  if (!config.find_boolean("is_causal").value_or(true)) {
    config.fail("is_causal", "false is not supported; only true, where a token sees what stands before it");
  }
  spec.head_dim = config.find_integer("head_dim", 1, kMaxHeadDim).value_or(defaults.head_dim);
  if (spec.head_dim == 0) spec.head_dim = default_head_dim(config, "num_attention_heads", spec);
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
  spec.head_dim = read_gguf_head_dim(metadata, prefix, spec);
  spec.rope = read_gguf_rope(metadata, prefix, spec.head_dim, spec.context_tokens);
  read_gguf_window(metadata, prefix, &spec);
  return spec;
}

std::optional<std::vector<AttentionKind>> read_layer_types(const Fields& config, std::size_t layers) {
  constexpr std::string_view kField = "layer_types";
  const auto* types = config.find_array(kField);
  if (!types) return std::nullopt;
  if (types->size() != layers) {
    config.fail(kField, fmt::format("{} types for {} layers", types->size(), layers));
  }
  std::vector<AttentionKind> kinds;
  for (const Value& type : *types) {
    const auto* name = type.as<std::string>();
    if (!name || (*name != kFullAttention && *name != kSlidingAttention)) {
      config.fail(kField,
                  fmt::format("{} is not supported; one of {}, {}", describe(type), kFullAttention, kSlidingAttention));
    }
    kinds.push_back(*name == kFullAttention ? AttentionKind::full : AttentionKind::sliding_window);
  }
  return kinds;
}

void read_windows(const Fields& config, int window_tokens, const std::function<bool(int)>& slides, DecoderSpec* spec) {
  const auto listed = read_layer_types(config, spec->layers.size());
  for (std::size_t i = 0; i < spec->layers.size(); ++i) {
    const bool slide = listed ? (*listed)[i] == AttentionKind::sliding_window : slides(static_cast<int>(i));
    if (!slide) continue;
    if (window_tokens == 0) config.fail("sliding_window", fmt::format("is off or missing, but layer {} slides", i));
    spec->layers[i].attention = AttentionKind::sliding_window;
    spec->layers[i].window_tokens = window_tokens;
  }
}

void read_late_windows(const Fields& config, DecoderSpec* spec) {
  constexpr int kDefaultFirst = 28;
  const bool on = config.find_boolean("use_sliding_window").value_or(false);
  const int window = on ? config.find_integer("sliding_window", 1, kMaxContext).value_or(0) : 0;
  const int first = config.find_integer("max_window_layers", 0, kMaxContext).value_or(kDefaultFirst);
  read_windows(config, window, [&](int layer) { return window > 0 && layer >= first; }, spec);
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
