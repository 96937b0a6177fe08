// The plain twin of every decoder: one sequence, no cache, a full mask, double precision.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "backend/step_plan.h"
#include "model/spec.h"

namespace cortex {

using NaiveRows = std::vector<std::vector<double>>;  // [tokens][width]

// y = W x + b, W [out, in].
inline NaiveRows naive_linear(const NaiveRows& in, const Weight& weight, const std::optional<Weight>& bias) {
  const std::vector<float> w = read_weight(weight);
  const std::vector<float> b = bias ? read_weight(*bias) : std::vector<float>{};
  const std::size_t columns = in.front().size(), outputs = w.size() / columns;
  NaiveRows out(in.size(), std::vector<double>(outputs));
  for (std::size_t row = 0; row < in.size(); ++row) {
    for (std::size_t n = 0; n < outputs; ++n) {
      double sum = b.empty() ? 0.0 : b[n];
      for (std::size_t k = 0; k < columns; ++k) sum += in[row][k] * w[n * columns + k];
      out[row][n] = sum;
    }
  }
  return out;
}

inline NaiveRows naive_rms_norm(const NaiveRows& in, const Weight& weight, double epsilon) {
  const std::vector<float> w = read_weight(weight);
  NaiveRows out = in;
  for (std::vector<double>& row : out) {
    double squares = 0.0;
    for (const double v : row) squares += v * v / static_cast<double>(row.size());
    for (std::size_t i = 0; i < row.size(); ++i) row[i] *= w[i] / std::sqrt(squares + epsilon);
  }
  return out;
}

inline void naive_rotate(NaiveRows& rows, int heads, int head_dim, const RopeSpec& rope) {
  const std::vector<float> frequencies = inverse_frequencies(rope);
  const auto half = frequencies.size();
  for (std::size_t position = 0; position < rows.size(); ++position) {
    for (std::size_t head = 0; head < static_cast<std::size_t>(heads); ++head) {
      double* x = rows[position].data() + head * static_cast<std::size_t>(head_dim);
      for (std::size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * frequencies[i];
        const double a = x[i], b = x[i + half];
        x[i] = a * std::cos(angle) - b * std::sin(angle);
        x[i + half] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
}

inline double naive_activation(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    case Activation::tanh:
      return std::tanh(x);
  }
  return std::numeric_limits<double>::quiet_NaN();
}

inline NaiveRows naive_attention(const DecoderSpec& spec, const DecoderLayerSpec& layer, const NaiveRows& queries,
                                 const NaiveRows& keys, const NaiveRows& values) {
  const auto dims = static_cast<std::size_t>(spec.head_dim);
  NaiveRows out(queries.size(), std::vector<double>(queries.front().size()));
  for (std::size_t head = 0; head < static_cast<std::size_t>(spec.heads); ++head) {
    const std::size_t kv = head / static_cast<std::size_t>(spec.heads / spec.kv_heads);
    for (std::size_t row = 0; row < queries.size(); ++row) {
      std::vector<double> weights(keys.size());
      double sum = 0.0;
      for (std::size_t seen = 0; seen < keys.size(); ++seen) {
        const bool near = layer.attention == AttentionKind::full ||
                          static_cast<int>(row) - static_cast<int>(seen) < layer.window_tokens;
        double score = 0.0;
        for (std::size_t d = 0; d < dims; ++d) score += queries[row][head * dims + d] * keys[seen][kv * dims + d];
        weights[seen] = seen <= row && near ? std::exp(score / std::sqrt(static_cast<double>(dims))) : 0.0;
        sum += weights[seen];
      }
      for (std::size_t seen = 0; seen < keys.size(); ++seen) {
        for (std::size_t d = 0; d < dims; ++d) {
          out[row][head * dims + d] += weights[seen] / sum * values[seen][kv * dims + d];
        }
      }
    }
  }
  return out;
}

inline void naive_add(NaiveRows& rows, const NaiveRows& terms) {
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (std::size_t i = 0; i < rows[row].size(); ++i) rows[row][i] += terms[row][i];
  }
}

// The logits of every token, [tokens, vocabulary].
inline std::vector<float> naive_logits(const DecoderSpec& spec, const DecoderWeights& weights,
                                       const std::vector<TokenId>& tokens) {
  const std::vector<float> table = read_weight(weights.embedding);
  const auto hidden = static_cast<std::ptrdiff_t>(spec.hidden);
  NaiveRows stream;
  for (const TokenId token : tokens)
    stream.emplace_back(table.begin() + token * hidden, table.begin() + (token + 1) * hidden);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const DecoderLayerWeights& layer = weights.layers[i];
    const NaiveRows in = naive_rms_norm(stream, layer.attention_norm.value(), spec.norm_epsilon);
    NaiveRows queries = naive_linear(in, layer.query, layer.query_bias);
    NaiveRows keys = naive_linear(in, layer.key, layer.key_bias);
    const NaiveRows values = naive_linear(in, layer.value, layer.value_bias);
    naive_rotate(queries, spec.heads, spec.head_dim, spec.rope);
    naive_rotate(keys, spec.kv_heads, spec.head_dim, spec.rope);
    const NaiveRows mixed = naive_attention(spec, spec.layers[i], queries, keys, values);
    naive_add(stream, naive_linear(mixed, layer.output, layer.output_bias));

    const NaiveRows normed = naive_rms_norm(stream, layer.mlp_norm.value(), spec.norm_epsilon);
    NaiveRows gate = naive_linear(normed, layer.gate.value(), layer.gate_bias);
    const NaiveRows up = naive_linear(normed, layer.up.value(), layer.up_bias);
    for (std::size_t row = 0; row < gate.size(); ++row) {
      for (std::size_t n = 0; n < up[row].size(); ++n) {
        gate[row][n] = naive_activation(spec.activation, gate[row][n]) * up[row][n];
      }
    }
    naive_add(stream, naive_linear(gate, layer.down.value(), layer.down_bias));
  }
  const Weight& head = spec.tied_head ? weights.embedding : weights.head.value();
  std::vector<float> logits;
  for (const auto& row : naive_linear(naive_rms_norm(stream, weights.final_norm, spec.norm_epsilon), head, {})) {
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

}  // namespace cortex
