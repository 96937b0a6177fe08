// The plain twin of every decoder: one sequence, no cache, a full mask, double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "backend/naive_layers.h"
#include "backend/step_plan.h"
#include "model/spec.h"

namespace cortex {

inline NaiveRows naive_decoder_attention(const DecoderSpec& spec, const DecoderLayerSpec& kind,
                                         const DecoderLayerWeights& layer, const NaiveRows& in) {
  NaiveRows queries = naive_linear(in, layer.query, layer.query_bias);
  NaiveRows keys = naive_linear(in, layer.key, layer.key_bias);
  const NaiveRows values = naive_linear(in, layer.value, layer.value_bias);
  if (spec.query_key_norm != QueryKeyNorm::none) {
    queries = naive_rms_norm(queries, layer.query_norm.value(), spec.norm_epsilon);
    keys = naive_rms_norm(keys, layer.key_norm.value(), spec.norm_epsilon);
  }
  const bool windowed = kind.attention == AttentionKind::sliding_window;
  const RopeSpec& rope = windowed && spec.window_rope ? *spec.window_rope : spec.rope;
  naive_rotate(queries, spec.head_dim, rope);
  naive_rotate(keys, spec.head_dim, rope);
  const double scale = spec.attention_scale != 0.0f ? spec.attention_scale : 1.0 / std::sqrt(spec.head_dim);
  const NaiveRows mixed = naive_attention(queries, keys, values, spec.head_dim, scale, [&](int row, int other) {
    return other <= row && (!windowed || row - other < kind.window_tokens);
  });
  return naive_linear(mixed, layer.output, layer.output_bias);
}

inline NaiveRows naive_gated(Activation activation, const NaiveRows& in, const Weight& gate, const Weight& up,
                             const Weight& down) {
  NaiveRows middle = naive_linear(in, gate);
  naive_activate(middle, activation);
  naive_multiply(middle, naive_linear(in, up));
  return naive_linear(middle, down);
}

// Every expert computes every row; the others count nothing.
inline NaiveRows naive_experts(const DecoderSpec& spec, const DecoderLayerWeights& layer, const NaiveRows& in) {
  const ExpertsSpec& mixture = spec.experts.value();
  NaiveRows weights = naive_linear(in, layer.router.value());  // [tokens][experts]
  for (std::vector<double>& row : weights) {
    double sum = 0.0;
    for (double& value : row) sum += value = std::exp(value);
    for (double& value : row) value /= sum;
    std::vector<std::size_t> order(row.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return row[a] > row[b]; });
    double kept = 0.0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i < static_cast<std::size_t>(mixture.per_token)) {
        kept += row[order[i]];
      } else {
        row[order[i]] = 0.0;
      }
    }
    for (double& value : row) value /= mixture.normalised ? kept : 1.0;
  }
  NaiveRows out(in.size(), std::vector<double>(in.front().size()));
  for (std::size_t expert = 0; expert < layer.experts.size(); ++expert) {
    const ExpertWeights& mine = layer.experts[expert];
    NaiveRows terms = naive_gated(spec.activation, in, mine.gate, mine.up, mine.down);
    for (std::size_t row = 0; row < terms.size(); ++row) {
      for (double& value : terms[row]) value *= weights[row][expert];
    }
    naive_add(out, terms);
  }
  return out;
}

inline NaiveRows naive_feed_forward(const DecoderSpec& spec, const DecoderLayerSpec& kind,
                                    const DecoderLayerWeights& layer, const NaiveRows& in) {
  if (kind.experts) return naive_experts(spec, layer, in);
  NaiveRows middle = naive_linear(in, layer.gate.value(), layer.gate_bias);
  naive_activate(middle, spec.activation);
  naive_multiply(middle, naive_linear(in, layer.up.value(), layer.up_bias));
  return naive_linear(middle, layer.down.value(), layer.down_bias);
}

// The states of every token after the final norm.
inline NaiveRows naive_states(const DecoderSpec& spec, const DecoderWeights& weights,
                              const std::vector<TokenId>& tokens) {
  const std::vector<float> table = read_weight(weights.embedding);
  NaiveRows stream;
  const auto hidden = static_cast<std::size_t>(spec.hidden);
  for (const TokenId token : tokens) {
    std::vector<double>& row = stream.emplace_back();
    for (std::size_t i = 0; i < hidden; ++i) {
      row.push_back(static_cast<double>(table[static_cast<std::size_t>(token) * hidden + i]) *
                    static_cast<double>(spec.embedding_scale));
    }
  }
  const double epsilon = spec.norm_epsilon;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const DecoderLayerWeights& layer = weights.layers[i];
    NaiveRows in = spec.pre_norm ? naive_rms_norm(stream, layer.attention_norm.value(), epsilon) : stream;
    NaiveRows out = naive_decoder_attention(spec, spec.layers[i], layer, in);
    naive_add(stream, spec.post_norm ? naive_rms_norm(out, layer.attention_post_norm.value(), epsilon) : out);

    in = spec.pre_norm ? naive_rms_norm(stream, layer.mlp_norm.value(), epsilon) : stream;
    out = naive_feed_forward(spec, spec.layers[i], layer, in);
    naive_add(stream, spec.post_norm ? naive_rms_norm(out, layer.mlp_post_norm.value(), epsilon) : out);
  }
  return naive_rms_norm(stream, weights.final_norm, epsilon);
}

// The logits of every token, [tokens, vocabulary].
inline std::vector<float> naive_logits(const DecoderSpec& spec, const DecoderWeights& weights,
                                       const std::vector<TokenId>& tokens) {
  const Weight& head = spec.tied_head ? weights.embedding : weights.head.value();
  return naive_floats(naive_linear(naive_states(spec, weights, tokens), head));
}

}  // namespace cortex
