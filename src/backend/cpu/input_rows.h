// The rows that the next projections multiply, in float32 and in each form that those need (linear.h): written by the
// team, a row by whoever has it. One object serves every layer, since it keeps its capacity; the engine thread's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/cpu/linear.h"

namespace cortex {

// Which forms are needed: a set of Product.
class ProductSet {
 public:
  ProductSet() = default;
  bool has(Product product) const { return (bits_ >> static_cast<int>(product) & 1u) != 0; }
  void add(Product product) { bits_ |= 1u << static_cast<int>(product); }
  void add(ProductSet other) { bits_ |= other.bits_; }

 private:
  unsigned bits_ = 0;
};

class InputRows {
 public:
  // Room for `rows` rows of `columns`, padded to `padded_columns` with zeros. What rows held is lost.
  void reshape(int rows, int columns, int padded_columns, ProductSet products);

  float* row(int index) { return values_.data() + static_cast<std::size_t>(index) * stride(); }
  const float* row(int index) const { return values_.data() + static_cast<std::size_t>(index) * stride(); }
  std::size_t stride() const { return static_cast<std::size_t>(padded_columns_); }
  int columns() const { return columns_; }
  // Makes the other forms of a row whose values are written. Any thread, different rows.
  void pack(int index);

  LinearInput view() const;
  std::size_t memory_bytes() const;

 private:
  int columns_ = 0, padded_columns_ = 0;
  ProductSet products_;
  std::vector<float> values_;
  std::vector<std::uint16_t> halves_;
  std::vector<std::int8_t> codes_;
  std::vector<float> scales_, scaled_sums_;
  std::vector<std::int32_t> negative_sums_;
};

}  // namespace cortex
