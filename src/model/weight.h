// A weight as its file holds it, and what reading it gives: float32, whatever the format. Names where the bytes are,
// like the tensor views it is made of; nothing is read before read_weight(). Immutable; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/tensor_view.h"

namespace cortex {

// MLX's affine quantisation: element j of a row is scales[j / group] * q + biases[j / group], where q are `bits` bits
// each, little end first in the row's 32-bit words.
struct AffineGroups {
  TensorView scales, biases;  // [out, in / group_elements]
  int bits = 0;
  int group_elements = 0;
};

// A matrix [out, in] or a vector [n] as its file holds it.
struct Weight {
  TensorView tensor;
  std::optional<AffineGroups> groups;  // then `tensor` is u32 [out, in * bits / 32]
  // > 0: the rows of each head lie in the order of interleaved rope (GGUF's llama): row 2i and 2i+1 are what halves put
  // at i and i + head_dim/2. Readers undo it by moving whole rows, which is exact.
  int interleaved_heads = 0;
  float plus = 0.0f;  // added to every value: norms that store weight - 1 (Gemma)

  std::vector<std::int64_t> shape() const;  // of the values: [out, in] or [n]
  std::int64_t rows() const { return tensor.rows(); }
  std::int64_t columns() const;
  std::int64_t elements() const { return rows() * columns(); }
};

// Rows [first, first + count) of a matrix as a weight of its own; not of an interleaved one.
Weight rows_of(const Weight& weight, std::int64_t first, std::int64_t count);

// The whole weight as float32, rows in the spec's order, into `out` [rows, columns]; takes little memory besides.
// Throws Error weights_io_error.
void read_weight(const Weight& weight, std::span<float> out);
std::vector<float> read_weight(const Weight& weight);

}  // namespace cortex
