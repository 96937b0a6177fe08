#include "model/arch/decoder_tensors.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/arch/decoder_parts.h"
#include "model/arch/limits.h"

namespace cortex {
namespace {

// The tensors of one layer.
class LayerTaker {
 public:
  LayerTaker(const DecoderSpec& spec, const DecoderTensorNames& names, std::string prefix, TensorMap* tensors)
      : spec_(spec), names_(names), prefix_(std::move(prefix)), tensors_(*tensors) {}

  DecoderLayerWeights take(const DecoderLayerSpec& layer_spec) {
    DecoderLayerWeights layer;
    take_norms(&layer);
    take_attention(&layer);
    if (layer_spec.experts) {
      take_experts(&layer);
    } else {
      take_feed_forward(&layer);
    }
    return layer;
  }

 private:
  std::string path(std::string_view name) const { return fmt::format("{}{}", prefix_, name); }
  Weight weight(std::string_view name, const TensorMap::Shape& shape) {
    return tensors_.take(path(name) + ".weight", shape);
  }
  std::optional<Weight> vector(bool wanted, std::string_view name, std::int64_t size, std::string_view kind) {
    if (!wanted) return std::nullopt;
    return tensors_.take(fmt::format("{}{}.{}", prefix_, name, kind), {size});
  }
  std::optional<Weight> norm(bool wanted, std::string_view name, std::int64_t size) {
    return vector(wanted, name, size, "weight");
  }
  std::optional<Weight> bias(bool wanted, std::string_view name, std::int64_t size) {
    return vector(wanted, name, size, "bias");
  }

  void take_norms(DecoderLayerWeights* layer) {
    const bool whole = spec_.query_key_norm == QueryKeyNorm::whole;
    const bool normed = spec_.query_key_norm != QueryKeyNorm::none;
    layer->attention_norm = norm(spec_.pre_norm, names_.attention_norm, spec_.hidden);
    layer->mlp_norm = norm(spec_.pre_norm, names_.mlp_norm, spec_.hidden);
    layer->attention_post_norm = norm(spec_.post_norm, names_.attention_post_norm, spec_.hidden);
    layer->mlp_post_norm = norm(spec_.post_norm, names_.mlp_post_norm, spec_.hidden);
    layer->query_norm = norm(normed, names_.query_norm, whole ? query_rows() : spec_.head_dim);
    layer->key_norm = norm(normed, names_.key_norm, whole ? kv_rows() : spec_.head_dim);
  }

  void take_attention(DecoderLayerWeights* layer) {
    const std::int64_t query = query_rows();
    const std::int64_t kv = kv_rows();
    if (names_.fused_qkv.empty()) {
      layer->query = weight(names_.query, {query, spec_.hidden});
      layer->key = weight(names_.key, {kv, spec_.hidden});
      layer->value = weight(names_.value, {kv, spec_.hidden});
    } else {
      const Weight fused = weight(names_.fused_qkv, {query + 2 * kv, spec_.hidden});
      layer->query = rows_of(fused, 0, query);
      layer->key = rows_of(fused, query, kv);
      layer->value = rows_of(fused, query + kv, kv);
    }
    layer->output = weight(names_.output, {spec_.hidden, query});
    layer->query_bias = bias(spec_.qkv_bias, names_.query, query);
    layer->key_bias = bias(spec_.qkv_bias, names_.key, kv);
    layer->value_bias = bias(spec_.qkv_bias, names_.value, kv);
    layer->output_bias = bias(spec_.output_bias, names_.output, spec_.hidden);
  }

  void take_feed_forward(DecoderLayerWeights* layer) {
    const std::int64_t size = spec_.intermediate;
    if (names_.fused_gate_up.empty()) {
      layer->gate = weight(names_.gate, {size, spec_.hidden});
      layer->up = weight(names_.up, {size, spec_.hidden});
    } else {
      const Weight fused = weight(names_.fused_gate_up, {2 * size, spec_.hidden});
      layer->gate = rows_of(fused, 0, size);
      layer->up = rows_of(fused, size, size);
    }
    layer->down = weight(names_.down, {spec_.hidden, size});
    layer->gate_bias = bias(spec_.mlp_bias, names_.gate, size);
    layer->up_bias = bias(spec_.mlp_bias, names_.up, size);
    layer->down_bias = bias(spec_.mlp_bias, names_.down, spec_.hidden);
  }

  void take_experts(DecoderLayerWeights* layer) {
    layer->router = weight(names_.router, {spec_.experts->count, spec_.hidden});
    layer->experts.resize(static_cast<std::size_t>(spec_.experts->count));
    const bool stacked = names_.experts.empty() || tensors_.contains(path(names_.stacked_gate) + ".weight");
    if (stacked) return take_stacks(&layer->experts);
    if (tensors_.contains(path(names_.experts) + ".gate_up_proj")) return take_fused_stacks(&layer->experts);
    take_one_by_one(&layer->experts);
  }

  void take_stacks(std::vector<ExpertWeights>* experts) {
    const std::int64_t count = spec_.experts->count;
    const std::int64_t size = spec_.experts->intermediate;
    const auto stack = [&](std::string_view name, std::int64_t rows, std::int64_t columns) {
      return tensors_.take_stacked(path(name) + ".weight", {count, rows, columns});
    };
    const std::vector<Weight> gates = stack(names_.stacked_gate, size, spec_.hidden);
    const std::vector<Weight> ups = stack(names_.stacked_up, size, spec_.hidden);
    const std::vector<Weight> downs = stack(names_.stacked_down, spec_.hidden, size);
    for (std::size_t i = 0; i < experts->size(); ++i) (*experts)[i] = {gates[i], ups[i], downs[i]};
  }

  void take_fused_stacks(std::vector<ExpertWeights>* experts) {
    const std::int64_t count = spec_.experts->count;
    const std::int64_t size = spec_.experts->intermediate;
    const std::string at = path(names_.experts);
    const std::vector<Weight> gate_ups = tensors_.take_stacked(at + ".gate_up_proj", {count, 2 * size, spec_.hidden});
    const std::vector<Weight> downs = tensors_.take_stacked(at + ".down_proj", {count, spec_.hidden, size});
    for (std::size_t i = 0; i < experts->size(); ++i) {
      (*experts)[i] = {rows_of(gate_ups[i], 0, size), rows_of(gate_ups[i], size, size), downs[i]};
    }
  }

  void take_one_by_one(std::vector<ExpertWeights>* experts) {
    const std::int64_t size = spec_.experts->intermediate;
    int index = 0;
    for (ExpertWeights& expert : *experts) {
      const std::string at = fmt::format("{}.{}.", names_.experts, index++);
      expert = {weight(at + "gate_proj", {size, spec_.hidden}), weight(at + "up_proj", {size, spec_.hidden}),
                weight(at + "down_proj", {spec_.hidden, size})};
    }
  }

  std::int64_t query_rows() const { return std::int64_t{spec_.heads} * spec_.head_dim; }
  std::int64_t kv_rows() const { return std::int64_t{spec_.kv_heads} * spec_.head_dim; }

  const DecoderSpec& spec_;
  const DecoderTensorNames& names_;
  std::string prefix_;
  TensorMap& tensors_;
};

// Yarn is switched on in files whose max_position_embeddings stays that of the training. Other scalings are trained
// with, so that it counts them in.
void stretch_context(DecoderSpec* spec) {
  if (spec->rope.scaling != RopeSpec::Scaling::yarn) return;
  const double stretched = double{spec->rope.factor} * spec->rope.original_context;
  spec->context_tokens = std::max(spec->context_tokens, static_cast<int>(std::min<double>(stretched, kMaxContext)));
}

constexpr DecoderTensorNames kHuggingFaceDecoderNames = {
    .root = "model.",
    .embedding = "embed_tokens",
    .final_norm = "norm",
    .head = "lm_head",
    .layers = "layers.",
    .attention_norm = "input_layernorm",
    .attention_post_norm = "",
    .mlp_norm = "post_attention_layernorm",
    .mlp_post_norm = "",
    .query = "self_attn.q_proj",
    .key = "self_attn.k_proj",
    .value = "self_attn.v_proj",
    .output = "self_attn.o_proj",
    .query_norm = "self_attn.q_norm",
    .key_norm = "self_attn.k_norm",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
    .router = "mlp.gate",
    .experts = "mlp.experts",
    .stacked_gate = "mlp.switch_mlp.gate_proj",
    .stacked_up = "mlp.switch_mlp.up_proj",
    .stacked_down = "mlp.switch_mlp.down_proj",
};

}  // namespace

const DecoderTensorNames kGgufDecoderNames = {
    .root = "",
    .embedding = "token_embd",
    .final_norm = "output_norm",
    .head = "output",
    .layers = "blk.",
    .attention_norm = "attn_norm",
    .attention_post_norm = "post_attention_norm",
    .mlp_norm = "ffn_norm",
    .mlp_post_norm = "post_ffw_norm",
    .query = "attn_q",
    .key = "attn_k",
    .value = "attn_v",
    .output = "attn_output",
    .query_norm = "attn_q_norm",
    .key_norm = "attn_k_norm",
    .gate = "ffn_gate",
    .up = "ffn_up",
    .down = "ffn_down",
    .router = "ffn_gate_inp",
    .experts = "",
    .stacked_gate = "ffn_gate_exps",
    .stacked_up = "ffn_up_exps",
    .stacked_down = "ffn_down_exps",
};

DecoderTensorNames huggingface_decoder_names(const TensorMap& tensors) {
  DecoderTensorNames names = kHuggingFaceDecoderNames;
  if (tensors.contains(fmt::format("{}.weight", names.embedding))) names.root = "";
  return names;
}

DecoderWeights take_decoder_weights(const DecoderSpec& spec, const DecoderTensorNames& names, TensorMap* tensors) {
  const auto take = [&](std::string_view root, std::string_view name, const TensorMap::Shape& shape) {
    return tensors->take(fmt::format("{}{}.weight", root, name), shape);
  };
  DecoderWeights weights;
  weights.embedding = take(names.root, names.embedding, {spec.vocabulary, spec.hidden});
  weights.final_norm = take(names.root, names.final_norm, {spec.hidden});
  if (!spec.tied_head) weights.head = take("", names.head, {spec.vocabulary, spec.hidden});
  int index = 0;
  for (const DecoderLayerSpec& layer : spec.layers) {
    LayerTaker taker(spec, names, fmt::format("{}{}{}.", names.root, names.layers, index++), tensors);
    weights.layers.push_back(taker.take(layer));
  }
  return weights;
}

DecoderModel take_huggingface_decoder(const Fields& config, DecoderSpec spec, const DecoderTensorNames& names,
                                      TensorMap* tensors) {
  stretch_context(&spec);
  check_vocabulary(config, spec.vocabulary, fmt::format("{}{}.weight", names.root, names.embedding), *tensors);
  const std::string head = fmt::format("{}.weight", names.head);
  if (names.root.empty() && !tensors->contains(head)) spec.tied_head = true;  // an embedder has no use for another
  DecoderWeights weights = take_decoder_weights(spec, names, tensors);
  tensors->ignore_suffix("rotary_emb.inv_freq");
  if (spec.tied_head) {
    for (const char* part : {"weight", "scales", "biases"}) tensors->ignore(fmt::format("{}.{}", names.head, part));
  }
  return {std::move(spec), std::move(weights)};
}

}  // namespace cortex
