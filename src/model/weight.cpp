#include "model/weight.h"

#include <algorithm>

#include "base/error.h"
#include "model/affine_groups.h"

namespace cortex {
namespace {

void read_stored(const Weight& weight, std::int64_t first_row, std::int64_t count, std::span<float> out) {
  if (weight.groups) return read_group_rows(weight, first_row, count, out);
  read_rows(weight.tensor, first_row, count, out);
}

// In the file, head by head, row 2i and 2i + 1 are the pair i; in `out` they are row i and i + head_rows / 2.
void read_interleaved(const Weight& weight, std::span<float> out) {
  Weight matrix = weight;
  if (matrix.tensor.shape.size() == 1) matrix.tensor.shape.push_back(1);  // a bias: rows of one element
  const std::int64_t heads = weight.interleaved_heads;
  CORTEX_CHECK(matrix.rows() % heads == 0);
  const std::int64_t head_rows = matrix.rows() / heads;
  CORTEX_CHECK(head_rows % 2 == 0);
  const auto width = static_cast<std::size_t>(matrix.columns());
  const auto pairs = static_cast<std::size_t>(head_rows) / 2;
  std::vector<float> head(2 * pairs * width);
  for (std::int64_t index = 0; index < heads; ++index) {
    read_stored(matrix, index * head_rows, head_rows, head);
    float* to = out.data() + static_cast<std::size_t>(index) * head.size();
    for (std::size_t row = 0; row < 2 * pairs; ++row) {
      std::copy_n(head.data() + row * width, width, to + (row / 2 + row % 2 * pairs) * width);
    }
  }
}

}  // namespace

std::vector<std::int64_t> Weight::shape() const {
  if (tensor.shape.size() < 2) return tensor.shape;
  return {rows(), columns()};
}

std::int64_t Weight::columns() const {
  return groups ? groups->scales.columns() * groups->group_elements : tensor.columns();
}

Weight rows_of(const Weight& weight, std::int64_t first, std::int64_t count) {
  CORTEX_CHECK(weight.tensor.shape.size() > 1);
  CORTEX_CHECK(weight.interleaved_heads == 0);
  Weight rows = weight;
  rows.tensor = rows_of(weight.tensor, first, count);
  if (rows.groups) {
    rows.groups->scales = rows_of(weight.groups->scales, first, count);
    rows.groups->biases = rows_of(weight.groups->biases, first, count);
  }
  return rows;
}

void read_weight(const Weight& weight, std::span<float> out) {
  CORTEX_CHECK(out.size() == static_cast<std::size_t>(weight.elements()));
  if (weight.interleaved_heads == 0) {
    read_stored(weight, 0, weight.rows(), out);
  } else {
    read_interleaved(weight, out);
  }
  if (weight.plus == 0.0f) return;
  for (float& value : out) value += weight.plus;
}

std::vector<float> read_weight(const Weight& weight) {
  std::vector<float> values(static_cast<std::size_t>(weight.elements()));
  read_weight(weight, values);
  return values;
}

}  // namespace cortex
