// The attention of one layer of a decoder: projections, norms of queries and keys, rope, and each tile of rows over the
// keys it sees. Made on a loader thread, used by the engine thread.
#pragma once

#include <cstddef>
#include <optional>

#include "backend/mlx/layers.h"
#include "backend/mlx/paged_pool.h"
#include "backend/mlx/step_layout.h"

namespace cortex {

class MlxAttention {
 public:
  // Of layer number `layer`.
  MlxAttention(const DecoderSpec& spec, int layer, const DecoderLayerWeights& weights);

  // x [T, hidden], as is what it gives; puts the rows' K and V into the pool.
  mx::array operator()(const mx::array& x, const StepLayout& layout, PagedPool& pool) const;
  std::size_t bytes() const;

 private:
  // Of projected rows [T, all heads * head_dim]: [T, heads + kv_heads, head_dim], normalised, not yet turned.
  mx::array queries_and_keys(const mx::array& projected) const;
  // x [T, heads * head_dim] through the norm, [T, heads, head_dim].
  mx::array normalised_heads(const mx::array& x, const MlxRmsNorm& norm) const;

  int layer_, window_tokens_;
  int heads_, kv_heads_, head_dim_;
  float scale_;
  bool norm_per_head_;
  MlxLinear query_key_value_, output_;
  std::optional<MlxRmsNorm> query_norm_, key_norm_;
};

}  // namespace cortex
