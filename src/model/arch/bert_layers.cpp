#include "model/arch/bert_layers.h"

#include <fmt/core.h>

#include <utility>

#include "model/arch/decoder_parts.h"
#include "model/arch/encoder_parts.h"
#include "model/arch/limits.h"

namespace cortex {
namespace {

constexpr std::string_view kWordTable = "embeddings.word_embeddings.weight";

class LayerTaker {
 public:
  LayerTaker(const EncoderSpec& spec, std::string prefix, TensorMap* tensors)
      : spec_(spec), prefix_(std::move(prefix)), tensors_(*tensors) {}

  Weight table(const std::string& name, int rows) {
    return tensors_.take(prefix_ + "embeddings." + name + ".weight", {rows, spec_.hidden});
  }
  // The oldest files say gamma and beta.
  LayerNorm norm(const std::string& name) {
    const bool old = tensors_.contains(prefix_ + name + ".gamma");
    return {tensors_.take(prefix_ + name + (old ? ".gamma" : ".weight"), {spec_.hidden}),
            tensors_.take(prefix_ + name + (old ? ".beta" : ".bias"), {spec_.hidden})};
  }
  EncoderLayerWeights layer(int index) {
    const std::string at = fmt::format("encoder.layer.{}.", index);
    EncoderLayerWeights layer;
    layer.query = linear(at + "attention.self.query", spec_.hidden, spec_.hidden);
    layer.key = linear(at + "attention.self.key", spec_.hidden, spec_.hidden);
    layer.value = linear(at + "attention.self.value", spec_.hidden, spec_.hidden);
    layer.output = linear(at + "attention.output.dense", spec_.hidden, spec_.hidden);
    layer.attention_norm = norm(at + "attention.output.LayerNorm");
    layer.up = linear(at + "intermediate.dense", spec_.intermediate, spec_.hidden);
    layer.down = linear(at + "output.dense", spec_.hidden, spec_.intermediate);
    layer.mlp_norm = norm(at + "output.LayerNorm");
    return layer;
  }

 private:
  Linear linear(const std::string& name, int out, int in) {
    return take_linear(prefix_ + name, out, in, true, &tensors_);
  }

  const EncoderSpec& spec_;
  std::string prefix_;
  TensorMap& tensors_;
};

}  // namespace

EncoderSpec read_bert_config(const Fields& config, std::string_view architecture) {
  EncoderSpec spec;
  spec.architecture = architecture;
  spec.vocabulary = config.integer("vocab_size", 1, kMaxVocabulary);
  spec.token_types = config.find_integer("type_vocab_size", 1, kMaxTokenTypes).value_or(2);
  spec.positions = config.integer("max_position_embeddings", 1, kMaxContext);
  spec.context_tokens = spec.positions;
  spec.layers.resize(static_cast<std::size_t>(config.integer("num_hidden_layers", 1, kMaxLayers)));
  read_encoder_heads(config, &spec);
  spec.intermediate = config.integer("intermediate_size", 1, kMaxIntermediate);
  spec.norm_epsilon = config.find_number("layer_norm_eps", kLeastPositive, 1.0).value_or(1e-12f);
  spec.activation = read_activation(config, "hidden_act", Activation::gelu);
  const std::string* positions = config.find_text("position_embedding_type");
  if (positions && *positions != "absolute") {
    config.fail("position_embedding_type", quote(*positions) + " is not supported; only absolute");
  }
  if (config.find_boolean("is_decoder").value_or(false)) config.fail("is_decoder", "true is not supported; only false");
  return spec;
}

std::string bert_prefix(std::string_view model, const TensorMap& tensors) {
  return tensors.contains(fmt::format("{}{}", model, kWordTable)) ? std::string(model) : "";
}

EncoderWeights take_bert_weights(const Fields& config, const EncoderSpec& spec, int position_rows,
                                 const std::string& prefix, TensorMap* tensors) {
  check_vocabulary(config, spec.vocabulary, fmt::format("{}{}", prefix, kWordTable), *tensors);
  LayerTaker take(spec, prefix, tensors);
  EncoderWeights weights;
  weights.token_embedding = take.table("word_embeddings", spec.vocabulary);
  weights.position_embedding = take.table("position_embeddings", position_rows);
  weights.type_embedding = take.table("token_type_embeddings", spec.token_types);
  weights.embedding_norm = take.norm("embeddings.LayerNorm");
  for (int i = 0; i < static_cast<int>(spec.layers.size()); ++i) weights.layers.push_back(take.layer(i));
  tensors->ignore(prefix + "embeddings.position_ids");
  tensors->ignore_prefix(prefix + "pooler.");
  return weights;
}

}  // namespace cortex
