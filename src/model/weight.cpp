#include <algorithm>

#include "base/error.h"
#include "model/spec.h"

namespace cortex {
namespace {

// In the file, head by head, row 2i and 2i + 1 are the pair i; in `out` they are row i and i + head_rows / 2.
void read_interleaved(const TensorView& tensor, std::int64_t heads, std::span<float> out) {
  TensorView matrix = tensor;
  if (matrix.shape.size() == 1) matrix.shape.push_back(1);  // a bias: rows of one element
  CORTEX_CHECK(matrix.rows() % heads == 0);
  const std::int64_t head_rows = matrix.rows() / heads;
  CORTEX_CHECK(head_rows % 2 == 0);
  const auto width = static_cast<std::size_t>(matrix.columns());
  const auto pairs = static_cast<std::size_t>(head_rows) / 2;
  std::vector<float> head(2 * pairs * width);
  for (std::int64_t index = 0; index < heads; ++index) {
    read_rows(matrix, index * head_rows, head_rows, head);
    float* to = out.data() + static_cast<std::size_t>(index) * head.size();
    for (std::size_t row = 0; row < 2 * pairs; ++row) {
      std::copy_n(head.data() + row * width, width, to + (row / 2 + row % 2 * pairs) * width);
    }
  }
}

}  // namespace

void read_weight(const Weight& weight, std::span<float> out) {
  const TensorView& tensor = weight.tensor;
  CORTEX_CHECK(out.size() == static_cast<std::size_t>(tensor.elements()));
  if (weight.interleaved_heads == 0) {
    read_rows(tensor, 0, tensor.rows(), out);
  } else {
    read_interleaved(tensor, weight.interleaved_heads, out);
  }
}

std::int64_t Weight::columns() const {
  return groups ? groups->scales.columns() * groups->group_elements : tensor.columns();
}

std::vector<std::int64_t> Weight::shape() const {
  if (tensor.shape.size() < 2) return tensor.shape;
  return {rows(), columns()};
}

std::vector<float> read_weight(const Weight& weight) {
  std::vector<float> values(static_cast<std::size_t>(weight.tensor.elements()));
  read_weight(weight, values);
  return values;
}

}  // namespace cortex
