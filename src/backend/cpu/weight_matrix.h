// Weights as the kernels want them: float32, rows of the spec's matrices one below another. Filled once on the loading
// thread, read by the team.
#pragma once

#include <cstddef>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/mapped_memory.h"

namespace cortex {

// Where a row of a matrix of `width` columns begins.
inline std::size_t offset_of(int row, int width) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(width);
}

struct WeightMatrix {
  MappedMemory values;  // [rows, columns]
  int rows = 0;
  int columns = 0;

  const float* data() const { return values.floats(); }
  const float* row(int index) const { return data() + offset_of(index, columns); }
};

// Reads weights one after another and tells how far it is.
class WeightReader {
 public:
  WeightReader(std::size_t total_elements, const LoadProgress& progress)
      : total_elements_(total_elements), progress_(progress) {}

  // The weights' rows below one another; a vector is one row.
  WeightMatrix read(std::span<const Weight* const> parts);
  WeightMatrix read(const Weight& weight);
  // Vectors end to end, as one row.
  WeightMatrix read_vector(std::span<const Weight* const> parts);
  WeightMatrix read_vector(const Weight& weight);

  std::size_t read_bytes() const { return read_elements_ * sizeof(float); }

 private:
  std::size_t append(const Weight& weight, float* to);

  std::size_t total_elements_;
  std::size_t read_elements_ = 0;
  const LoadProgress& progress_;
};

}  // namespace cortex
