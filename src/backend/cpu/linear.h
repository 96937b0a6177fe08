// Rows times a packed matrix: the one heavy thing a layer does. What a task is and what its operands look like; the
// kernels that do it are in kernels.h. Every output is a function of its own row and its own row of the matrix: groups
// of columns ascending, one float32 accumulator an output, so that tile shapes, threads and what rides beside do not
// matter.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/packed_matrix.h"
#include "model/spec.h"

namespace cortex {

// In which arithmetic a product is done.
enum class Product : std::uint8_t {
  int8,  // codes by activations of 8 bits with a scale a row and 32 columns: sums of 32 are exact
  bf16,  // bfloat16 by bfloat16, summed in float32
  f32,   // whatever the matrix holds, widened to float32, by float32
};

// Rows that some matrices are multiplied by, in each arithmetic that these need; a pointer is null where none does.
// Rows are `columns` apart, which is a multiple of 32 and at least what each matrix has, padded; the padding is zero.
struct LinearInput {
  int columns = 0;
  const float* values = nullptr;                // [rows, columns]                f32
  const std::uint16_t* halves = nullptr;        // [rows, columns] bfloat16       bf16
  const std::int8_t* codes = nullptr;           // [rows, columns], -127..127     int8
  const float* scales = nullptr;                // [rows, columns / 32]           int8: value = code * scale
  const float* scaled_sums = nullptr;           // [rows, columns / 32]           scale * sum of the codes
  const std::int32_t* negative_sums = nullptr;  // [rows, columns / 32, 2]    minus the sum of 16 and of 16 codes
};

enum class LinearEnd : std::uint8_t {
  store,     // out = x
  add,       // out += x
  activate,  // out = activation(x)
  gate,      // panels come in twos, gate and up: out = activation(gate) * up, 16 columns of it for the two
};

struct LinearTask {
  const PackedMatrix* matrix = nullptr;
  LinearInput in;
  int first_row = 0, rows = 0;      // of `in` and `out`
  int first_panel = 0, panels = 0;  // of the matrix; even with LinearEnd::gate
  const float* bias = nullptr;      // [16 * panels of the matrix], or null
  LinearEnd end = LinearEnd::store;
  Activation activation = Activation::silu;  // activate, gate
  float* out = nullptr;                      // row r, panel p: out + r * out_stride + 16 * p (8 * p with gate)
  std::size_t out_stride = 0;
};

}  // namespace cortex
