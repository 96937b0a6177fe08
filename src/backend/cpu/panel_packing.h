// 16 rows of a weight, as their file holds them, into a panel of a packed matrix (packed_matrix.h). Stateless; any
// thread.
#pragma once

#include <array>
#include <cstddef>

#include "backend/cpu/packed_matrix.h"
#include "model/weight.h"

namespace cortex {

// Bytes of 16 rows of a weight's tensors, in the order that the panel has them.
struct PanelRows {
  std::array<const std::byte*, kPanelRows> tensor{};
  std::array<const std::byte*, kPanelRows> scales{}, biases{};  // with affine groups
};

// Into out [panel_bytes() of a matrix of this format and the weight's columns]; `format` is what packed_format() says
// of the weight. Codes keep their bits, and scales theirs; only floats that become codes or bfloat16 are rounded.
void pack_panel(const Weight& weight, const PackedFormat& format, const PanelRows& rows, std::byte* out);

}  // namespace cortex
