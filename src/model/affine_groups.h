// MLX's affine quantisation as float32. Stateless; any thread.
// Source: github.com/ml-explore/mlx, mlx.core.quantize.
#pragma once

#include <cstdint>
#include <span>

#include "model/weight.h"

namespace cortex {

// Rows [first_row, first_row + count) of a weight that has groups, into out [count, columns]. The product of scale and
// quant, and its sum with the bias, round once each. Throws Error weights_io_error.
void read_group_rows(const Weight& weight, std::int64_t first_row, std::int64_t count, std::span<float> out);

}  // namespace cortex
