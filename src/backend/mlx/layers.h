// What decoders and encoders are composed of: MLX operations on rows, and weights brought from their files. Weights are
// loaded on a loader thread: they are made of host memory, not by operations, so no stream of that thread is in them
// and they may be used on any other. Operations are called by the engine thread.
#pragma once

#include <mlx/mlx.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "model/spec.h"

namespace cortex {

namespace mx = ::mlx::core;

// The type that everything is computed and kept in, weights and KV included.
inline const mx::Dtype kDtype = mx::float32;

// The weight in kDtype, [rows, columns], or [n] for a vector.
mx::array load_array(const Weight& weight);

// y = x W^T + b, for x [T, in].
class MlxLinear {
 public:
  // The weights' rows, one matrix below the other, so that one product serves all of them. `biases` has as many
  // entries, or none at all.
  MlxLinear(const std::vector<const Weight*>& weights, const std::vector<const Weight*>& biases);

  mx::array operator()(const mx::array& x) const;  // [T, out]
  std::size_t bytes() const;

 private:
  mx::array weight_;  // [out, in]
  std::optional<mx::array> bias_;
};

// x [..., n] elementwise.
mx::array activate(Activation activation, const mx::array& x);

// Entries [begin, end) of the first dimension, or of the second.
mx::array rows(const mx::array& x, int begin, int end);
mx::array columns(const mx::array& x, int begin, int end);

// The rows of a matrix, evaluated, in host memory.
std::span<const float> host_row(const mx::array& matrix, int row);

// softmax(q k^T / sqrt(d)) v: q [n, heads, d], k and v [1, kv_heads, L, d] give [n, heads * d]. With `causal` the last
// query is at the last key's place; `mask` [n, L] is true where a query sees a key.
mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, bool causal,
                 const std::optional<mx::array>& mask);

}  // namespace cortex
