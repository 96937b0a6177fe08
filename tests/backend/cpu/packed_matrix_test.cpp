#include "backend/cpu/packed_matrix.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <random>
#include <vector>

#include "backend/cpu/random_matrix.h"
#include "base/error.h"

namespace cortex {
namespace {

// As the format's dequantisation rounds it.
float value_of(const RandomMatrix& matrix, int row, int column) {
  const PackedFormat& format = matrix.packed().format;
  if (!format.coded()) return static_cast<float>(matrix.value(row, column));
  const float product = static_cast<float>(matrix.scale(row, column)) * static_cast<float>(matrix.code(row, column));
  return format.minima ? product + static_cast<float>(matrix.minimum(row, column)) : product;
}

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

void expect_unpacks(const RandomMatrix& random) {
  const PackedMatrix& matrix = random.packed();
  ASSERT_EQ(random.bytes(), static_cast<std::size_t>(matrix.panels()) * matrix.panel_bytes());
  for (int row = 0; row < matrix.rows; ++row) {
    std::vector<float> values(static_cast<std::size_t>(matrix.columns) + 1, 7.0f);
    unpack_row(matrix, row, values.data());
    for (int column = 0; column < matrix.columns; ++column) {
      ASSERT_TRUE(same_bits(values[static_cast<std::size_t>(column)], value_of(random, row, column)))
          << row << ", " << column;
    }
    ASSERT_EQ(values.back(), 7.0f);
  }
  for (int panel = 0; panel < matrix.panels(); ++panel) {
    for (int block = 0; block < matrix.blocks(); ++block) {
      float values[kBlockColumns][kPanelRows];
      unpack_block(matrix, panel, block, values[0]);
      for (int i = 0; i < kBlockColumns * kPanelRows; ++i) {
        const int row = kPanelRows * panel + i % kPanelRows;
        const int column = kBlockColumns * block + i / kPanelRows;
        ASSERT_TRUE(same_bits(values[i / kPanelRows][i % kPanelRows], value_of(random, row, column)))
            << row << ", " << column;
      }
    }
  }
}

std::vector<PackedFormat> formats() {
  std::vector<PackedFormat> formats = coded_formats();
  formats.push_back({.bits = 32});
  formats.push_back({.bits = 16});
  return formats;
}

TEST(PackedMatrix, UnpacksEveryFormat) {
  std::mt19937 random(1);
  for (const PackedFormat& format : formats()) {
    for (const int rows : {1, 15, 16, 17, 48}) {
      for (const int columns : {8, 32, 256, 608}) {
        SCOPED_TRACE(describe(format) + ", " + std::to_string(rows) + " x " + std::to_string(columns));
        expect_unpacks({format, rows, columns, random});
      }
    }
  }
}

TEST(PackedMatrix, UnpacksExtremes) {
  std::mt19937 random(2);
  for (const PackedFormat& format : coded_formats()) {
    for (const Codes codes : {Codes::lowest, Codes::highest}) {
      for (const Scales scales : {Scales::random, Scales::zero, Scales::subnormal}) {
        SCOPED_TRACE(describe(format));
        expect_unpacks({format, 17, 512, random, codes, scales});
      }
    }
  }
}

TEST(PackedMatrix, OutOfRangeIsOurBug) {
  std::mt19937 random(3);
  const RandomMatrix matrix({.bits = 8, .zero_shift = 7}, 17, 40, random);
  std::array<float, std::size_t{kBlockColumns} * kPanelRows> out{};
  EXPECT_THROW(unpack_row(matrix.packed(), 17, out.data()), CheckFailure);
  EXPECT_THROW(unpack_row(matrix.packed(), -1, out.data()), CheckFailure);
  EXPECT_THROW(unpack_block(matrix.packed(), 2, 0, out.data()), CheckFailure);
  EXPECT_THROW(unpack_block(matrix.packed(), 0, 2, out.data()), CheckFailure);
}

}  // namespace
}  // namespace cortex
