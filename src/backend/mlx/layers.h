// What decoders and encoders are composed of: MLX operations on rows, and weights brought from their files. Weights are
// loaded on a loader thread: they are made of host memory, not by operations, so no stream of that thread is in them
// and they may be used on any other. Operations are called by the engine thread.
#pragma once

#include <mlx/mlx.h>

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>

#include "backend/linear_view.h"
#include "model/spec.h"

namespace cortex {

namespace mx = ::mlx::core;

// The type that everything is computed and kept in, weights and KV included.
inline const mx::Dtype kDtype = mx::float32;

// Query rows that attend at once: the scores [heads, rows, keys] are in memory whole.
inline constexpr int kTileRows = 128;

// The weight in kDtype, [rows, columns], or [n] for a vector.
mx::array load_array(const Weight& weight);

// y = x W^T + b, for x [T, in].
class MlxLinear {
 public:
  // The rows of the parts, one matrix below the other, so that one product serves all of them. All have a bias or none.
  MlxLinear(std::initializer_list<LinearView> parts);

  mx::array operator()(const mx::array& x) const;  // [T, out]
  std::size_t bytes() const;

 private:
  mx::array weight_;  // [out, in]
  std::optional<mx::array> bias_;
};

// x / sqrt(mean(x^2) + epsilon) * weight, over the last dimension.
class MlxRmsNorm {
 public:
  MlxRmsNorm(const Weight& weight, float epsilon) : weight_(load_array(weight)), epsilon_(epsilon) {}

  mx::array operator()(const mx::array& x) const { return mx::fast::rms_norm(x, weight_, epsilon_); }
  std::size_t bytes() const { return weight_.nbytes(); }

 private:
  mx::array weight_;
  float epsilon_;
};

std::optional<MlxRmsNorm> load_rms_norm(const std::optional<Weight>& weight, float epsilon);

// (x - mean) / sqrt(variance + epsilon) * weight + bias, over the last dimension.
class MlxLayerNorm {
 public:
  MlxLayerNorm(const LayerNorm& norm, float epsilon);

  mx::array operator()(const mx::array& x) const { return mx::fast::layer_norm(x, weight_, bias_, epsilon_); }
  std::size_t bytes() const { return weight_.nbytes() + (bias_ ? bias_->nbytes() : 0); }

 private:
  mx::array weight_;
  std::optional<mx::array> bias_;
  float epsilon_;
};

// What a part of a model holds; nothing where it is absent.
template <typename Part>
std::size_t bytes_of(const std::optional<Part>& part) {
  return part ? part->bytes() : 0;
}

// x [..., n] elementwise.
mx::array activate(Activation activation, const mx::array& x);

// Entries [begin, end) of the first dimension, or of the second.
mx::array rows(const mx::array& x, int begin, int end);
mx::array columns(const mx::array& x, int begin, int end);

// The rows of a matrix, evaluated, in host memory.
std::span<const float> host_row(const mx::array& matrix, int row);

// softmax(q k^T * scale) v: q [n, heads, d], k and v [1, kv_heads, L, d] give [n, heads * d]. With `causal` the last
// query is at the last key's place; `mask` [n, L] is true where a query sees a key.
mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, float scale, bool causal,
                 const std::optional<mx::array>& mask);

// [rows, keys], true where query i, at position first_query + i, and key j, at first_key + j, are no farther apart than
// `behind` keys before the query and `ahead` after it.
mx::array reach_mask(int first_query, int queries, int first_key, int keys, int behind, int ahead);

}  // namespace cortex
