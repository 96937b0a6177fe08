// Rotary embedding by plain operations, so that rows of one step may stand at any positions. The tables are made for
// the step's positions on the host: angle = position * inverse frequency in float32, as the models were trained.
#pragma once

#include <mlx/mlx.h>

#include <cstdint>
#include <span>

#include "model/spec.h"

namespace cortex {

namespace mx = ::mlx::core;

struct RotaryRows {
  mx::array cosines, sines;  // [T, 1, dims / 2], times the spec's magnitude
};

RotaryRows rotary_rows(const RopeSpec& rope, std::span<const std::int32_t> positions);

// x [T, heads, head_dim], its leading `dims` elements turned.
mx::array turn(const mx::array& x, const RotaryRows& rows);

}  // namespace cortex
