#include "backend/cpu/input_rows.h"

#include <algorithm>

#include "backend/cpu/buffer.h"
#include "backend/cpu/kernels.h"

namespace cortex {

void InputRows::reshape(int rows, int columns, int padded_columns, ProductSet products) {
  columns_ = columns;
  padded_columns_ = padded_columns;
  products_ = products;
  const std::size_t elements = static_cast<std::size_t>(rows) * stride();
  const std::size_t groups = elements / kBlockColumns;
  make_room(values_, elements);
  if (columns < padded_columns) {
    for (int index = 0; index < rows; ++index) std::fill(row(index) + columns, row(index) + padded_columns, 0.0f);
  }
  if (products.has(Product::bf16)) make_room(halves_, elements);
  if (products.has(Product::int8)) {
    make_room(codes_, elements);
    make_room(scales_, groups);
    make_room(scaled_sums_, groups);
    make_room(negative_sums_, 2 * groups);
  }
}

void InputRows::pack(int index) {
  const std::size_t at = static_cast<std::size_t>(index) * stride();
  if (products_.has(Product::bf16)) kernels().round_to_bf16(row(index), stride(), halves_.data() + at);
  if (products_.has(Product::int8)) {
    const std::size_t group = at / kBlockColumns;
    kernels().quantise(row(index), padded_columns_, codes_.data() + at, scales_.data() + group,
                       scaled_sums_.data() + group, negative_sums_.data() + 2 * group);
  }
}

LinearInput InputRows::view() const {
  return {.columns = padded_columns_,
          .values = values_.data(),
          .halves = halves_.data(),
          .codes = codes_.data(),
          .scales = scales_.data(),
          .scaled_sums = scaled_sums_.data(),
          .negative_sums = negative_sums_.data()};
}

std::size_t InputRows::memory_bytes() const {
  return (values_.capacity() + scales_.capacity() + scaled_sums_.capacity()) * sizeof(float) +
         halves_.capacity() * sizeof(std::uint16_t) + codes_.capacity() +
         negative_sums_.capacity() * sizeof(std::int32_t);
}

}  // namespace cortex
