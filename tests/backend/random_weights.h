// Models with random weights in memory, for shapes and features that no model on disk has.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "base/error.h"
#include "model/spec.h"

namespace cortex {

class MemoryFile : public RandomAccessFile {
 public:
  explicit MemoryFile(std::vector<float> values) : values_(std::move(values)) {}
  const std::filesystem::path& path() const override { return path_; }
  std::uint64_t size_bytes() const override { return values_.size() * sizeof(float); }
  void read(std::uint64_t offset, std::span<std::byte> out) const override {
    CORTEX_CHECK(offset + out.size() <= size_bytes());
    std::memcpy(out.data(), reinterpret_cast<const std::byte*>(values_.data()) + offset, out.size());
  }

 private:
  std::filesystem::path path_ = "memory";
  std::vector<float> values_;
};

class RandomWeights {
 public:
  explicit RandomWeights(std::mt19937& random) : random_(random) {}

  Weight of(std::vector<std::int64_t> shape, float mean, float spread) {
    std::size_t elements = 1;
    for (const std::int64_t size : shape) elements *= static_cast<std::size_t>(size);
    std::normal_distribution<float> normal(mean, spread);
    std::vector<float> values(elements);
    for (float& value : values) value = normal(random_);
    TensorView tensor{.name = "random", .dtype = DType::f32, .shape = std::move(shape)};
    tensor.bytes = elements * sizeof(float);
    tensor.file = std::make_shared<MemoryFile>(std::move(values));
    return {tensor};
  }

  Weight matrix(std::int64_t rows, std::int64_t columns) {
    return of({rows, columns}, 0.0f, 1.0f / std::sqrt(static_cast<float>(columns)));
  }
  Weight norm(std::int64_t size) { return of({size}, 1.0f, 0.2f); }
  Weight bias(std::int64_t size) { return of({size}, 0.0f, 0.3f); }
  Linear linear(std::int64_t rows, std::int64_t columns, bool with_bias) {
    return {matrix(rows, columns), with_bias ? std::optional(bias(rows)) : std::nullopt};
  }
  LayerNorm layer_norm(std::int64_t size, bool with_bias) {
    return {norm(size), with_bias ? std::optional(bias(size)) : std::nullopt};
  }

 private:
  std::mt19937& random_;
};

inline DecoderLayerWeights random_layer(const DecoderSpec& spec, const DecoderLayerSpec& kind, RandomWeights random) {
  const auto norm = [&](bool there) { return there ? std::optional(random.norm(spec.hidden)) : std::nullopt; };
  const auto bias = [&](bool there, std::int64_t size) {
    return there ? std::optional(random.bias(size)) : std::nullopt;
  };
  const std::int64_t head_dim = spec.head_dim, queries = spec.heads * head_dim, keys = spec.kv_heads * head_dim;
  DecoderLayerWeights layer;
  layer.attention_norm = norm(spec.pre_norm);
  layer.mlp_norm = norm(spec.pre_norm);
  layer.attention_post_norm = norm(spec.post_norm);
  layer.mlp_post_norm = norm(spec.post_norm);
  layer.query = random.matrix(queries, spec.hidden);
  layer.key = random.matrix(keys, spec.hidden);
  layer.value = random.matrix(keys, spec.hidden);
  layer.output = random.matrix(spec.hidden, queries);
  if (spec.query_key_norm != QueryKeyNorm::none) {
    const bool whole = spec.query_key_norm == QueryKeyNorm::whole;
    layer.query_norm = random.norm(whole ? queries : spec.head_dim);
    layer.key_norm = random.norm(whole ? keys : spec.head_dim);
  }
  layer.query_bias = bias(spec.qkv_bias, queries);
  layer.key_bias = bias(spec.qkv_bias, keys);
  layer.value_bias = bias(spec.qkv_bias, keys);
  layer.output_bias = bias(spec.output_bias, spec.hidden);
  if (kind.experts) {
    layer.router = random.matrix(spec.experts->count, spec.hidden);
    const std::int64_t intermediate = spec.experts->intermediate;
    for (int i = 0; i < spec.experts->count; ++i) {
      layer.experts.push_back({random.matrix(intermediate, spec.hidden), random.matrix(intermediate, spec.hidden),
                               random.matrix(spec.hidden, intermediate)});
    }
    return layer;
  }
  layer.gate = random.matrix(spec.intermediate, spec.hidden);
  layer.up = random.matrix(spec.intermediate, spec.hidden);
  layer.down = random.matrix(spec.hidden, spec.intermediate);
  layer.gate_bias = bias(spec.mlp_bias, spec.intermediate);
  layer.up_bias = bias(spec.mlp_bias, spec.intermediate);
  layer.down_bias = bias(spec.mlp_bias, spec.hidden);
  return layer;
}

inline DecoderWeights random_weights(const DecoderSpec& spec, std::mt19937& generator) {
  RandomWeights random(generator);
  DecoderWeights weights;
  weights.embedding = random.of({spec.vocabulary, spec.hidden}, 0.0f, 1.0f / spec.embedding_scale);
  for (const DecoderLayerSpec& kind : spec.layers) weights.layers.push_back(random_layer(spec, kind, random));
  weights.final_norm = random.norm(spec.hidden);
  if (!spec.tied_head) weights.head = random.matrix(spec.vocabulary, spec.hidden);
  return weights;
}

// What an encoder's weights have that its spec leaves open.
struct EncoderExtras {
  bool biases = true;
  bool first_norm = true;  // before the first layer's attention, where norms come before
  bool head_dense = true;
  bool head_norm = false;
};

inline EncoderWeights random_weights(const EncoderSpec& spec, const EncoderExtras& extras, std::mt19937& generator) {
  RandomWeights random(generator);
  const std::int64_t hidden = spec.hidden, head_dim = spec.head_dim, intermediate = spec.intermediate;
  const std::int64_t width = spec.heads * head_dim;
  const auto norm = [&] { return random.layer_norm(hidden, extras.biases); };
  EncoderWeights weights;
  weights.token_embedding = random.of({spec.vocabulary, hidden}, 0.0f, 1.0f);
  if (spec.positions > 0) weights.position_embedding = random.of({spec.positions, hidden}, 0.0f, 0.5f);
  if (spec.token_types > 0) weights.type_embedding = random.of({spec.token_types, hidden}, 0.0f, 0.5f);
  weights.embedding_norm = norm();
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    EncoderLayerWeights& layer = weights.layers.emplace_back();
    if (!spec.pre_norm || i > 0 || extras.first_norm) layer.attention_norm = norm();
    layer.query = random.linear(width, hidden, extras.biases);
    layer.key = random.linear(width, hidden, extras.biases);
    layer.value = random.linear(width, hidden, extras.biases);
    layer.output = random.linear(hidden, width, extras.biases);
    layer.mlp_norm = norm();
    if (spec.gated) layer.gate = random.linear(intermediate, hidden, extras.biases);
    layer.up = random.linear(intermediate, hidden, extras.biases);
    layer.down = random.linear(hidden, intermediate, extras.biases);
  }
  if (spec.pre_norm) weights.final_norm = norm();
  if (!spec.head) return weights;
  EncoderHeadWeights& head = weights.head.emplace();
  if (extras.head_dense) head.dense = random.linear(hidden, hidden, extras.biases);
  if (extras.head_norm) head.norm = norm();
  head.out = random.linear(spec.head->labels, hidden, true);
  return weights;
}

}  // namespace cortex
