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
  // projected [T, heads * head_dim] normalised and turned, [T, heads, head_dim].
  mx::array placed(const mx::array& projected, int heads, const std::optional<MlxRmsNorm>& norm,
                   const RotaryRows& rotary) const;

  int layer_, window_tokens_;
  int heads_, kv_heads_, head_dim_;
  float scale_;
  bool norm_per_head_;
  MlxLinear query_key_value_, output_;
  std::optional<MlxRmsNorm> query_norm_, key_norm_;
};

}  // namespace cortex
