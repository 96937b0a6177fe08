// A decoder with random weights in memory, for shapes and features that no model on disk has.
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

inline Weight random_weight(std::mt19937& random, std::vector<std::int64_t> shape, float mean, float spread) {
  std::size_t elements = 1;
  for (const std::int64_t size : shape) elements *= static_cast<std::size_t>(size);
  std::normal_distribution<float> normal(mean, spread);
  std::vector<float> values(elements);
  for (float& value : values) value = normal(random);
  TensorView tensor{.name = "random", .dtype = DType::f32, .shape = std::move(shape)};
  tensor.bytes = elements * sizeof(float);
  tensor.file = std::make_shared<MemoryFile>(std::move(values));
  return {tensor};
}

inline DecoderWeights random_weights(const DecoderSpec& spec, std::mt19937& random) {
  const auto matrix = [&](std::int64_t rows, std::int64_t columns) {
    return random_weight(random, {rows, columns}, 0.0f, 1.0f / std::sqrt(static_cast<float>(columns)));
  };
  const auto norm = [&] { return random_weight(random, {spec.hidden}, 1.0f, 0.2f); };
  const auto bias = [&](bool there, std::int64_t size) {
    return there ? std::optional(random_weight(random, {size}, 0.0f, 0.3f)) : std::nullopt;
  };
  const std::int64_t queries = spec.heads * spec.head_dim, keys = spec.kv_heads * spec.head_dim;
  DecoderWeights weights;
  weights.embedding = random_weight(random, {spec.vocabulary, spec.hidden}, 0.0f, 1.0f);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    DecoderLayerWeights layer;
    layer.attention_norm = norm();
    layer.mlp_norm = norm();
    layer.query = matrix(queries, spec.hidden);
    layer.key = matrix(keys, spec.hidden);
    layer.value = matrix(keys, spec.hidden);
    layer.output = matrix(spec.hidden, queries);
    layer.gate = matrix(spec.intermediate, spec.hidden);
    layer.up = matrix(spec.intermediate, spec.hidden);
    layer.down = matrix(spec.hidden, spec.intermediate);
    layer.query_bias = bias(spec.qkv_bias, queries);
    layer.key_bias = bias(spec.qkv_bias, keys);
    layer.value_bias = bias(spec.qkv_bias, keys);
    layer.output_bias = bias(spec.output_bias, spec.hidden);
    layer.gate_bias = bias(spec.mlp_bias, spec.intermediate);
    layer.up_bias = bias(spec.mlp_bias, spec.intermediate);
    layer.down_bias = bias(spec.mlp_bias, spec.hidden);
    weights.layers.push_back(layer);
  }
  weights.final_norm = norm();
  if (!spec.tied_head) weights.head = matrix(spec.vocabulary, spec.hidden);
  return weights;
}

}  // namespace cortex
