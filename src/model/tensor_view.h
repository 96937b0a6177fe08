// A tensor as its file holds it: name, element type, shape and where its bytes are. Nothing is read until asked for and
// nothing is mapped: a file that shrinks while it is read is an error, not a signal. Immutable; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_system.h"

namespace cortex {

enum class DType {
  f32,
  f16,
  bf16,
  f64,
  i8,
  i16,
  i32,
  i64,
  u8,
  u16,
  u32,
  u64,
  boolean,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q4_k,
  q5_k,
  q6_k
};

// Elements per quantised block and its bytes; plain types are blocks of one element.
struct DTypeLayout {
  std::string_view name;
  int block_elements;
  int block_bytes;
};
const DTypeLayout& layout_of(DType dtype);

struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  // outermost first; quantised blocks run along the last dimension
  std::shared_ptr<const RandomAccessFile> file;
  std::uint64_t offset = 0;  // of the first byte in the file
  std::uint64_t bytes = 0;

  std::int64_t elements() const;
  std::int64_t rows() const;     // product of all dimensions but the last; 1 for a vector
  std::int64_t columns() const;  // the last dimension; 1 for a scalar
  std::uint64_t row_bytes() const;
};

// "[64, 32]"
std::string to_string(const std::vector<std::int64_t>& shape);

// Rows [first, first + count) as a matrix [count, columns] of its own.
TensorView rows_of(const TensorView& tensor, std::int64_t first, std::int64_t count);

// Reads `count` rows from `first_row` on into out [count, columns] as float32. Every format's value is exact but for
// one rounding where a minimum is added. Throws Error weights_io_error when the file can't give the bytes.
void read_rows(const TensorView& tensor, std::int64_t first_row, std::int64_t count, std::span<float> out);
// The same as the file holds them, into out [count * row_bytes].
void read_row_bytes(const TensorView& tensor, std::int64_t first_row, std::int64_t count, std::span<std::byte> out);

}  // namespace cortex
