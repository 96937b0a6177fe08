#include "backend/cpu/row_parts.h"

#include <algorithm>

namespace cortex {
namespace {

// Enough rows to read all weights for.
constexpr int kPartRows = 128;
constexpr int kUnitRows = 16;  // what kernels take at a time

}  // namespace

RowParts::RowParts(int rows, int threads)
    : rows_(rows), count_(threads > 1 ? rows / kPartRows / threads * threads : 0) {}

int RowParts::first(int part) const {
  const int units = (rows_ + kUnitRows - 1) / kUnitRows;
  return std::min(rows_, units * part / count_ * kUnitRows);
}

}  // namespace cortex
