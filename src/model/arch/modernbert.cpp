// ModernBERT, embedders and classifiers: pre-norm layers with rope, gated feed-forwards, and windows in most layers.
#include <fmt/core.h>

#include <string>
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/encoder_parts.h"
#include "model/arch/limits.h"
#include "model/arch/rope_fields.h"

namespace cortex {
namespace {

constexpr LayerRopeFields kFullRope = {
    .layer_type = kFullAttention, .theta_field = "global_rope_theta", .default_theta = 160000.0f};
constexpr LayerRopeFields kWindowRope = {
    .layer_type = kSlidingAttention, .theta_field = "local_rope_theta", .default_theta = 10000.0f};

// Every few layers, from the first on, one attends to everything. A window is given by its whole width.
void read_attention(const Fields& config, EncoderSpec* spec) {
  const int reach = config.find_integer("local_attention", 1, kMaxContext).value_or(128) / 2;
  const int every = config.find_integer("global_attn_every_n_layers", 1, kMaxLayers).value_or(3);
  const auto listed = read_layer_types(config, spec->layers.size());
  for (std::size_t i = 0; i < spec->layers.size(); ++i) {
    const bool slides = listed ? (*listed)[i] == AttentionKind::sliding_window : i % static_cast<std::size_t>(every);
    if (slides) spec->layers[i] = {.attention = AttentionKind::sliding_window, .reach_tokens = reach};
  }
  spec->rope = read_layer_rope(config, kFullRope, spec->head_dim);
  LayerRopeFields window = kWindowRope;
  if (config.is_null(window.theta_field)) window.default_theta = spec->rope.theta;  // null: that of all layers
  spec->window_rope = read_layer_rope(config, window, spec->head_dim);
}

EncoderSpec read_spec(const Fields& config) {
  EncoderSpec spec;
  spec.architecture = "modernbert";
  spec.vocabulary = config.integer("vocab_size", 1, kMaxVocabulary);
  spec.context_tokens = config.integer("max_position_embeddings", 1, kMaxContext);
  spec.layers.resize(static_cast<std::size_t>(config.integer("num_hidden_layers", 1, kMaxLayers)));
  read_encoder_heads(config, &spec);
  spec.intermediate = config.integer("intermediate_size", 1, kMaxIntermediate);
  spec.norm_epsilon = config.find_number("norm_eps", kLeastPositive, 1.0).value_or(1e-5f);
  spec.activation = read_activation(config, "hidden_activation", Activation::gelu);
  spec.pre_norm = true;
  spec.gated = true;
  for (const char* field : {"attention_bias", "mlp_bias"}) {
    if (config.find_boolean(field).value_or(false)) config.fail(field, "true is not supported; only false");
  }
  read_attention(config, &spec);
  return spec;
}

EncoderHeadSpec read_head(const Fields& config) {
  EncoderHeadSpec head;
  head.labels = static_cast<int>(read_labels(config).size());
  head.activation = read_activation(config, "classifier_activation", Activation::gelu);
  const std::string* pooling = config.find_text("classifier_pooling");
  if (!pooling || *pooling == "cls") return head;
  if (*pooling != "mean") config.fail("classifier_pooling", quote(*pooling) + " is not supported; one of cls, mean");
  head.pooling = Pooling::mean;
  return head;
}

class LayerTaker {
 public:
  LayerTaker(const EncoderSpec& spec, std::string prefix, bool biased_norms, TensorMap* tensors)
      : spec_(spec), prefix_(std::move(prefix)), biased_norms_(biased_norms), tensors_(*tensors) {}

  LayerNorm norm(const std::string& name) {
    LayerNorm norm{.weight = tensors_.take(prefix_ + name + ".weight", {spec_.hidden}), .bias = {}};
    if (biased_norms_) norm.bias = tensors_.take(prefix_ + name + ".bias", {spec_.hidden});
    return norm;
  }
  EncoderLayerWeights layer(int index) {
    const std::string at = fmt::format("layers.{}.", index);
    const int hidden = spec_.hidden;
    EncoderLayerWeights layer;
    if (index > 0) layer.attention_norm = norm(at + "attn_norm");  // the embedding's norm stands before the first
    const Weight fused = matrix(at + "attn.Wqkv", 3 * hidden, hidden);
    layer.query.weight = rows_of(fused, 0, hidden);
    layer.key.weight = rows_of(fused, hidden, hidden);
    layer.value.weight = rows_of(fused, 2 * std::int64_t{hidden}, hidden);
    layer.output.weight = matrix(at + "attn.Wo", hidden, hidden);
    layer.mlp_norm = norm(at + "mlp_norm");
    const Weight gated = matrix(at + "mlp.Wi", 2 * spec_.intermediate, hidden);
    layer.gate = Linear{.weight = rows_of(gated, 0, spec_.intermediate), .bias = {}};
    layer.up.weight = rows_of(gated, spec_.intermediate, spec_.intermediate);
    layer.down.weight = matrix(at + "mlp.Wo", hidden, spec_.intermediate);
    return layer;
  }

 private:
  Weight matrix(const std::string& name, int out, int in) {
    return take_linear(prefix_ + name, out, in, false, &tensors_).weight;
  }

  const EncoderSpec& spec_;
  std::string prefix_;
  bool biased_norms_;
  TensorMap& tensors_;
};

EncoderHeadWeights take_head(const Fields& config, const EncoderSpec& spec, LayerTaker take, TensorMap* tensors) {
  const bool biased = config.find_boolean("classifier_bias").value_or(false);
  EncoderHeadWeights head;
  head.dense = take_linear("head.dense", spec.hidden, spec.hidden, biased, tensors);
  head.norm = take.norm("head.norm");
  head.out = take_linear("classifier", spec.head->labels, spec.hidden, true, tensors);
  return head;
}

}  // namespace

Network modernbert_from_huggingface(const Fields& config, TensorMap* tensors) {
  EncoderSpec spec = read_spec(config);
  const std::string table = "embeddings.tok_embeddings.weight";
  const std::string prefix = tensors->contains("model." + table) ? "model." : "";
  check_vocabulary(config, spec.vocabulary, prefix + table, *tensors);

  const bool biased_norms = config.find_boolean("norm_bias").value_or(false);
  LayerTaker take(spec, prefix, biased_norms, tensors);
  EncoderWeights weights;
  weights.token_embedding = tensors->take(prefix + table, {spec.vocabulary, spec.hidden});
  weights.embedding_norm = take.norm("embeddings.norm");
  for (int i = 0; i < static_cast<int>(spec.layers.size()); ++i) weights.layers.push_back(take.layer(i));
  weights.final_norm = take.norm("final_norm");
  if (is_classifier(config)) {
    spec.head = read_head(config);
    weights.head = take_head(config, spec, LayerTaker(spec, "", biased_norms, tensors), tensors);
  } else {
    for (const char* pre_training : {"head.", "decoder."}) tensors->ignore_prefix(pre_training);
  }
  return EncoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
