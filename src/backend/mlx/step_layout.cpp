#include "backend/mlx/step_layout.h"

#include <algorithm>
#include <cstdint>

#include "backend/mlx/layers.h"

namespace cortex {
namespace {

std::vector<AttentionTile> tiles_of(const StepPlan& plan, int window_tokens, const PagedPool& pool) {
  std::vector<AttentionTile> tiles;
  for (const SequenceSlice& slice : plan.slices) {
    for (int row = 0; row < slice.rows; row += kTileRows) {
      const int count = std::min(kTileRows, slice.rows - row);
      const int start = slice.start + row;
      const int end = start + count;
      const int first_key = window_tokens > 0 ? std::max(0, start - window_tokens + 1) : 0;
      AttentionTile& tile = tiles.emplace_back(AttentionTile{
          .first_row = slice.first_row + row, .rows = count, .keys = pool.locate(slice.blocks, first_key, end)});
      if (window_tokens > 0 && end > window_tokens && count > 1) {
        tile.mask = reach_mask(start, count, first_key, end - first_key, window_tokens - 1, 0);
      } else {
        tile.causal = count > 1;
      }
    }
  }
  return tiles;
}

}  // namespace

int window_of(const DecoderLayerSpec& layer) {
  return layer.attention == AttentionKind::sliding_window ? layer.window_tokens : 0;
}

StepLayout lay_out(const StepPlan& plan, const DecoderSpec& spec, const PagedPool& pool) {
  std::vector<std::int32_t> slots, positions;
  for (const SequenceSlice& slice : plan.slices) {
    const int end = slice.start + slice.rows;
    PagedPool::add_slots(slice.blocks, slice.start, end, &slots);
    for (int position = slice.start; position < end; ++position) positions.push_back(position);
  }
  StepLayout layout{.slots = pool.checked_slots(slots), .kinds = {}};
  for (const DecoderLayerSpec& layer : spec.layers) {
    const int window = window_of(layer);
    if (layout.kinds.contains(window)) continue;
    const RopeSpec& rope = window > 0 && spec.window_rope ? *spec.window_rope : spec.rope;
    layout.kinds.emplace(window, RowLayout{rotary_rows(rope, positions), tiles_of(plan, window, pool)});
  }
  return layout;
}

}  // namespace cortex
