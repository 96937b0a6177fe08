#include "backend/cpu/weight_matrix.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace cortex {

WeightMatrix WeightReader::read(std::span<const Weight* const> parts) {
  WeightMatrix matrix;
  for (const Weight* part : parts) {
    matrix.columns = static_cast<int>(part->columns());
    matrix.rows += static_cast<int>(part->rows());
  }
  std::size_t elements = 0;
  for (const Weight* part : parts) elements += static_cast<std::size_t>(part->elements());
  CORTEX_CHECK(elements == static_cast<std::size_t>(matrix.rows) * static_cast<std::size_t>(matrix.columns));
  matrix.values = MappedMemory(elements * sizeof(float));
  float* to = matrix.values.floats();
  for (const Weight* part : parts) to += append(*part, to);
  return matrix;
}

WeightMatrix WeightReader::read_vector(std::span<const Weight* const> parts) {
  WeightMatrix vector;
  vector.rows = 1;
  for (const Weight* part : parts) vector.columns += static_cast<int>(part->elements());
  vector.values = MappedMemory(static_cast<std::size_t>(vector.columns) * sizeof(float));
  float* to = vector.values.floats();
  for (const Weight* part : parts) to += append(*part, to);
  return vector;
}

WeightMatrix WeightReader::read(const Weight& weight) { return read(std::array{&weight}); }

WeightMatrix WeightReader::read_vector(const Weight& weight) { return read_vector(std::array{&weight}); }

std::size_t WeightReader::append(const Weight& weight, float* to) {
  const auto elements = static_cast<std::size_t>(weight.elements());
  read_weight(weight, {to, elements});
  read_elements_ += elements;
  if (progress_) {
    progress_(std::min(1.0, static_cast<double>(read_elements_) / static_cast<double>(total_elements_)));
  }
  return elements;
}

}  // namespace cortex
