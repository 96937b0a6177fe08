// Where the rows of one step stand: made once a step, shared by all its layers. Used by the engine thread.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "backend/mlx/checked_ids.h"
#include "backend/mlx/paged_pool.h"
#include "backend/mlx/rotary.h"
#include "backend/step_plan.h"
#include "model/spec.h"

namespace cortex {

// Some rows of one slice, which attend to one range of keys.
struct AttentionTile {
  int first_row = 0;  // in the step
  int rows = 0;
  PagedPool::Range keys;
  bool causal = false;
  std::optional<mx::array> mask;  // [rows, keys.tokens], where causal does not say it all
};

// What layers of one kind share.
struct RowLayout {
  RotaryRows rotary;
  std::vector<AttentionTile> tiles;
};

struct StepLayout {
  CheckedIds slots;                // [T], where the rows' K and V go
  std::map<int, RowLayout> kinds;  // by window_of(layer)
};

// Tokens that a row of the layer sees; 0: all before it.
int window_of(const DecoderLayerSpec& layer);

// The plan is checked already.
StepLayout lay_out(const StepPlan& plan, const DecoderSpec& spec, const PagedPool& pool);

}  // namespace cortex
