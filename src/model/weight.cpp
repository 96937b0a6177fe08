#include <algorithm>

#include "base/error.h"
#include "model/spec.h"

namespace cortex {
namespace {

// In: head by head, row 2i and 2i + 1 are the pair i. Out: row i and i + head_rows / 2. `width` floats a row.
std::vector<float> undo_interleaving(const std::vector<float>& in, std::size_t heads, std::size_t width) {
  const std::size_t rows = in.size() / width;
  const std::size_t head_rows = rows / heads;
  CORTEX_CHECK(rows % heads == 0 && head_rows % 2 == 0);
  std::vector<float> out(in.size());
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t within = row % head_rows;
    const std::size_t target = row - within + within / 2 + (within % 2) * (head_rows / 2);
    std::copy_n(in.data() + row * width, width, out.data() + target * width);
  }
  return out;
}

}  // namespace

std::vector<float> read_weight(const Weight& weight) {
  const TensorView& tensor = weight.tensor;
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  read_rows(tensor, 0, tensor.rows(), values);
  if (weight.interleaved_heads == 0) return values;
  const bool is_vector = tensor.shape.size() == 1;
  const std::size_t width = is_vector ? 1 : static_cast<std::size_t>(tensor.columns());
  return undo_interleaving(values, static_cast<std::size_t>(weight.interleaved_heads), width);
}

}  // namespace cortex
