// The plain twin of every encoder: one text, a full mask, double precision.
#pragma once

#include <cmath>
#include <cstdlib>
#include <vector>

#include "backend/naive_layers.h"
#include "backend/step_plan.h"
#include "model/spec.h"

namespace cortex {

inline NaiveRows naive_encoder_attention(const EncoderSpec& spec, const EncoderLayerSpec& kind,
                                         const EncoderLayerWeights& layer, const NaiveRows& in) {
  NaiveRows queries = naive_linear(in, layer.query.weight, layer.query.bias);
  NaiveRows keys = naive_linear(in, layer.key.weight, layer.key.bias);
  const NaiveRows values = naive_linear(in, layer.value.weight, layer.value.bias);
  const bool windowed = kind.attention == AttentionKind::sliding_window;
  if (spec.positions == 0) {
    const RopeSpec& rope = windowed && spec.window_rope ? *spec.window_rope : spec.rope;
    naive_rotate(queries, spec.head_dim, rope);
    naive_rotate(keys, spec.head_dim, rope);
  }
  const double scale = 1.0 / std::sqrt(spec.head_dim);
  const NaiveRows mixed = naive_attention(queries, keys, values, spec.head_dim, scale, [&](int row, int other) {
    return !windowed || std::abs(row - other) <= kind.reach_tokens;
  });
  return naive_linear(mixed, layer.output.weight, layer.output.bias);
}

inline NaiveRows naive_encoder_mlp(const EncoderSpec& spec, const EncoderLayerWeights& layer, const NaiveRows& in) {
  NaiveRows middle = naive_linear(in, layer.up.weight, layer.up.bias);
  if (spec.gated) {
    NaiveRows gate = naive_linear(in, layer.gate.value().weight, layer.gate.value().bias);
    naive_activate(gate, spec.activation);
    naive_multiply(middle, gate);
  } else {
    naive_activate(middle, spec.activation);
  }
  return naive_linear(middle, layer.down.weight, layer.down.bias);
}

// The states of every token of a text; `types` [tokens] or empty.
inline NaiveRows naive_encode(const EncoderSpec& spec, const EncoderWeights& weights,
                              const std::vector<TokenId>& tokens, const std::vector<std::int32_t>& types) {
  const auto hidden = static_cast<std::size_t>(spec.hidden);
  NaiveRows stream(tokens.size(), std::vector<double>(hidden));
  const auto add_row = [&](const Weight& table, std::size_t row, std::int32_t index) {
    const std::vector<float> values = read_weight(table);
    for (std::size_t i = 0; i < hidden; ++i) stream[row][i] += values[static_cast<std::size_t>(index) * hidden + i];
  };
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    add_row(weights.token_embedding, row, tokens[row]);
    if (spec.token_types > 0) add_row(weights.type_embedding.value(), row, types.empty() ? 0 : types[row]);
    if (spec.positions > 0) add_row(weights.position_embedding.value(), row, static_cast<std::int32_t>(row));
  }
  const double epsilon = spec.norm_epsilon;
  stream = naive_layer_norm(stream, weights.embedding_norm, epsilon);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const EncoderLayerWeights& layer = weights.layers[i];
    if (spec.pre_norm) {
      const NaiveRows in = layer.attention_norm ? naive_layer_norm(stream, *layer.attention_norm, epsilon) : stream;
      naive_add(stream, naive_encoder_attention(spec, spec.layers[i], layer, in));
      naive_add(stream, naive_encoder_mlp(spec, layer, naive_layer_norm(stream, layer.mlp_norm, epsilon)));
    } else {
      naive_add(stream, naive_encoder_attention(spec, spec.layers[i], layer, stream));
      stream = naive_layer_norm(stream, layer.attention_norm.value(), epsilon);
      naive_add(stream, naive_encoder_mlp(spec, layer, stream));
      stream = naive_layer_norm(stream, layer.mlp_norm, epsilon);
    }
  }
  return spec.pre_norm ? naive_layer_norm(stream, weights.final_norm.value(), epsilon) : stream;
}

// One vector of a text's states, through the head where there is one.
inline std::vector<float> naive_pooled(const EncoderSpec& spec, const EncoderWeights& weights,
                                       const NaiveRows& states) {
  NaiveRows pooled(1, std::vector<double>(states.front().size()));
  switch (spec.head ? spec.head->pooling : spec.pooling) {
    case Pooling::cls:
      pooled.front() = states.front();
      break;
    case Pooling::last_token:
      pooled.front() = states.back();
      break;
    case Pooling::mean:
      for (const std::vector<double>& row : states) {
        for (std::size_t i = 0; i < row.size(); ++i) pooled.front()[i] += row[i] / static_cast<double>(states.size());
      }
      break;
  }
  if (!spec.head) return naive_floats(pooled);
  const EncoderHeadWeights& head = weights.head.value();
  if (head.dense) {
    pooled = naive_linear(pooled, head.dense->weight, head.dense->bias);
    naive_activate(pooled, spec.head->activation);
  }
  if (head.norm) pooled = naive_layer_norm(pooled, *head.norm, spec.norm_epsilon);
  return naive_floats(naive_linear(pooled, head.out.weight, head.out.bias));
}

}  // namespace cortex
