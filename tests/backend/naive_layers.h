// What the plain twins of decoders and encoders are made of: loops in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "model/spec.h"

namespace cortex {

using NaiveRows = std::vector<std::vector<double>>;  // [tokens][width]

// y = W x + b, W [out, in].
inline NaiveRows naive_linear(const NaiveRows& in, const Weight& weight, const std::optional<Weight>& bias = {}) {
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

// Every row in parts as long as the weight.
inline NaiveRows naive_rms_norm(const NaiveRows& in, const Weight& weight, double epsilon) {
  const std::vector<float> w = read_weight(weight);
  NaiveRows out = in;
  for (std::vector<double>& row : out) {
    for (std::size_t first = 0; first < row.size(); first += w.size()) {
      double squares = 0.0;
      for (std::size_t i = 0; i < w.size(); ++i) squares += row[first + i] * row[first + i];
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(w.size()) + epsilon);
      for (std::size_t i = 0; i < w.size(); ++i) row[first + i] *= w[i] * scale;
    }
  }
  return out;
}

inline NaiveRows naive_layer_norm(const NaiveRows& in, const LayerNorm& norm, double epsilon) {
  const std::vector<float> w = read_weight(norm.weight);
  const std::vector<float> b = norm.bias ? read_weight(*norm.bias) : std::vector<float>(w.size());
  NaiveRows out = in;
  for (std::vector<double>& row : out) {
    const auto size = static_cast<double>(row.size());
    double mean = 0.0, variance = 0.0;
    for (const double v : row) mean += v / size;
    for (const double v : row) variance += (v - mean) * (v - mean) / size;
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = (row[i] - mean) / std::sqrt(variance + epsilon) * w[i] + b[i];
  }
  return out;
}

// Row i stands at position i.
inline void naive_rotate(NaiveRows& rows, int head_dim, const RopeSpec& rope) {
  const std::vector<float> frequencies = inverse_frequencies(rope);
  const auto half = frequencies.size();
  for (std::size_t position = 0; position < rows.size(); ++position) {
    for (std::size_t head = 0; head < rows[position].size(); head += static_cast<std::size_t>(head_dim)) {
      double* x = rows[position].data() + head;
      for (std::size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * frequencies[i];
        const double a = x[i], b = x[i + half];
        x[i] = rope.magnitude * (a * std::cos(angle) - b * std::sin(angle));
        x[i + half] = rope.magnitude * (b * std::cos(angle) + a * std::sin(angle));
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

inline void naive_activate(NaiveRows& rows, Activation activation) {
  for (std::vector<double>& row : rows) {
    for (double& value : row) value = naive_activation(activation, value);
  }
}

inline void naive_multiply(NaiveRows& rows, const NaiveRows& factors) {
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (std::size_t i = 0; i < rows[row].size(); ++i) rows[row][i] *= factors[row][i];
  }
}

inline void naive_add(NaiveRows& rows, const NaiveRows& terms) {
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (std::size_t i = 0; i < rows[row].size(); ++i) rows[row][i] += terms[row][i];
  }
}

// sees(row, other): whether the row attends to the other. Query heads share key heads in turn.
inline NaiveRows naive_attention(const NaiveRows& queries, const NaiveRows& keys, const NaiveRows& values, int head_dim,
                                 double scale, const std::function<bool(int, int)>& sees) {
  const auto dims = static_cast<std::size_t>(head_dim);
  const std::size_t group = queries.front().size() / keys.front().size();
  NaiveRows out(queries.size(), std::vector<double>(queries.front().size()));
  for (std::size_t head = 0; head < queries.front().size() / dims; ++head) {
    const std::size_t kv = head / group;
    for (std::size_t row = 0; row < queries.size(); ++row) {
      std::vector<double> weights(keys.size());
      double sum = 0.0;
      for (std::size_t other = 0; other < keys.size(); ++other) {
        double score = 0.0;
        for (std::size_t d = 0; d < dims; ++d) score += queries[row][head * dims + d] * keys[other][kv * dims + d];
        weights[other] = sees(static_cast<int>(row), static_cast<int>(other)) ? std::exp(score * scale) : 0.0;
        sum += weights[other];
      }
      for (std::size_t other = 0; other < keys.size(); ++other) {
        for (std::size_t d = 0; d < dims; ++d) {
          out[row][head * dims + d] += weights[other] / sum * values[other][kv * dims + d];
        }
      }
    }
  }
  return out;
}

inline std::vector<float> naive_floats(const NaiveRows& rows) {
  std::vector<float> floats;
  for (const std::vector<double>& row : rows) floats.insert(floats.end(), row.begin(), row.end());
  return floats;
}

}  // namespace cortex
