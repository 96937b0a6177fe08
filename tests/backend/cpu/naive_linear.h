// Rows times a packed matrix in double precision, one output at a time, with the largest error that float32 sums in the
// order of linear.h can have; and the rows themselves, in each arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/random_matrix.h"

namespace cortex {

// Random rows, [rows, columns] and zeros up to `padded`, with everything that LinearInput points to.
class RandomRows {
 public:
  RandomRows(int rows, int columns, int padded, std::mt19937& random) : rows_(rows), padded_(padded) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    values_.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(padded));
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) values_[at(row, column)] = normal(random);
    }
    fill();
  }

  // Takes a change of values() over into the other arithmetics.
  void fill() {
    const std::size_t groups = values_.size() / kBlockColumns;
    halves_.resize(values_.size());
    codes_.resize(values_.size());
    scales_.resize(groups);
    scaled_sums_.resize(groups);
    negative_sums_.resize(2 * groups);
    kPortableKernels.quantise(values_.data(), static_cast<int>(values_.size()), codes_.data(), scales_.data(),
                              scaled_sums_.data(), negative_sums_.data());
    kPortableKernels.round_to_bf16(values_.data(), values_.size(), halves_.data());
  }

  LinearInput input() const {
    return {.columns = padded_,
            .values = values_.data(),
            .halves = halves_.data(),
            .codes = codes_.data(),
            .scales = scales_.data(),
            .scaled_sums = scaled_sums_.data(),
            .negative_sums = negative_sums_.data()};
  }

  int rows() const { return rows_; }
  float& value(int row, int column) { return values_[at(row, column)]; }
  float value(int row, int column) const { return values_[at(row, column)]; }
  float half(int row, int column) const {
    return value_of_bits(static_cast<std::uint32_t>(halves_[at(row, column)]) << 16);
  }
  int code(int row, int column) const { return codes_[at(row, column)]; }
  float scale(int row, int column) const { return scales_[at(row, column) / kBlockColumns]; }
  float scaled_sum(int row, int column) const { return scaled_sums_[at(row, column) / kBlockColumns]; }

 private:
  std::size_t at(int row, int column) const {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(padded_) + static_cast<std::size_t>(column);
  }

  int rows_;
  int padded_;
  std::vector<float> values_;
  std::vector<std::uint16_t> halves_;
  std::vector<std::int8_t> codes_;
  std::vector<float> scales_, scaled_sums_;
  std::vector<std::int32_t> negative_sums_;
};

// A sum as float32 arithmetic makes it: every operation is off by at most 2^-24 of its result, or by half of the
// smallest subnormal where that is more.
class BoundedSum {
 public:
  // A term that `roundings` operations on values of at most `size` have made, each times at most `factor` since.
  void add(double term, int roundings, double size, double factor = 1.0) {
    value_ += term;
    error_ += kUnit * (roundings * size + std::abs(value_)) + kLeast * (roundings * factor + 1.0);
  }
  void add(double term) { add(term, 0, 0.0); }

  // One more rounding of something of this size.
  void allow(double size) { error_ += kUnit * size + kLeast; }

  double value() const { return value_; }
  double error() const { return 1.001 * error_; }  // what the roundings change of each other's sizes

 private:
  static constexpr double kUnit = 0x1p-24;
  static constexpr double kLeast = 0x1p-150;
  double value_ = 0.0;
  double error_ = 0.0;
};

// Integer sums of a group, times both scales; then its minimum times the sum of the activations.
inline BoundedSum naive_int8(const RandomMatrix& matrix, int n, const RandomRows& in, int row) {
  BoundedSum sum;
  const PackedFormat& format = matrix.packed().format;
  const int step = format.group_columns < kBlockColumns ? format.group_columns : kBlockColumns;
  for (int column = 0; column < matrix.padded(); column += step) {
    std::int64_t integers = 0;
    for (int k = column; k < column + step; ++k) integers += matrix.code(n, k) * in.code(row, k);
    const auto factor = static_cast<double>(integers);
    const double term = factor * matrix.scale(n, column) * in.scale(row, column);
    sum.add(term, 1, std::abs(term), std::abs(factor));
    if (format.minima) sum.add(matrix.minimum(n, column) * in.scaled_sum(row, column));
  }
  return sum;
}

// A processor may add the products of a pair first, and take what is subnormal for zero.
inline BoundedSum naive_bf16(const RandomMatrix& matrix, int n, const RandomRows& in, int row) {
  BoundedSum sum;
  for (int column = 0; column < matrix.padded(); column += 2) {
    const double first = matrix.value(n, column) * in.half(row, column);
    const double second = matrix.value(n, column + 1) * in.half(row, column + 1);
    sum.add(second, 1, std::abs(first) + std::abs(second));
    sum.add(first);
  }
  return sum;
}

// What is not exact in a weight: a scale of 24 bits times its code, the sum with a minimum.
inline BoundedSum naive_f32(const RandomMatrix& matrix, int n, const RandomRows& in, int row) {
  BoundedSum sum;
  const PackedFormat& format = matrix.packed().format;
  const int roundings = 1 + (format.coded() && format.minima ? 1 : 0);
  const bool rounds_scaled = format.coded() && format.scales == ScaleKind::f32;
  for (int column = 0; column < matrix.padded(); ++column) {
    const double x = in.value(row, column);
    const double term = matrix.value(n, column) * x;
    sum.add(term, roundings, std::abs(term), std::max(1.0, std::abs(x)));
    if (rounds_scaled) sum.allow(std::abs(matrix.scale(n, column) * matrix.code(n, column) * x));
  }
  return sum;
}

inline BoundedSum naive_product(Product product, const RandomMatrix& matrix, int n, const RandomRows& in, int row) {
  if (product == Product::int8) return naive_int8(matrix, n, in, row);
  return product == Product::bf16 ? naive_bf16(matrix, n, in, row) : naive_f32(matrix, n, in, row);
}

}  // namespace cortex
