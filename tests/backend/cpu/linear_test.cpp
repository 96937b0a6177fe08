#include "backend/cpu/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/naive_linear.h"
#include "backend/cpu/random_matrix.h"

namespace cortex {
namespace {

using Floats = std::vector<float>;

constexpr std::array kBatches = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 128};
constexpr PackedFormat kBf16 = {.bits = 16};
constexpr PackedFormat kF32 = {.bits = 32};

struct Case {
  Product product = Product::int8;
  PackedFormat format;
};

std::string describe(const Case& which) {
  static constexpr const char* kNames[] = {"int8", "bf16", "f32"};
  return std::string(kNames[static_cast<int>(which.product)]) + ": " + describe(which.format);
}

// Every product with every format that it takes.
std::vector<Case> all_cases() {
  std::vector<Case> cases = {{Product::bf16, kBf16}, {Product::f32, kBf16}, {Product::f32, kF32}};
  for (const PackedFormat& format : coded_formats()) {
    cases.push_back({Product::int8, format});
    cases.push_back({Product::f32, format});
  }
  return cases;
}

// Which part of the rows and of the matrix, and how it ends.
struct Part {
  int first_row = 0, rows = 0;
  int first_panel = 0, panels = 0;
  const float* bias = nullptr;
  LinearEnd end = LinearEnd::store;
  Activation activation = Activation::silu;
};

Part whole(const RandomMatrix& matrix, const RandomRows& in) {
  return {.rows = in.rows(), .panels = matrix.packed().panels()};
}

float before(std::size_t index) { return static_cast<float>(index % 11) * 0.25f - 1.0f; }

// What is computed into, and all that is around it.
struct Outputs {
  std::size_t stride = 0;
  Floats values;
  float at(int row, int column) const {
    return values[static_cast<std::size_t>(row) * stride + static_cast<std::size_t>(column)];
  }
};

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

// Runs a part of a product. All but its own rows and columns must stay as they were.
Outputs run(const Kernels& kernels, Product product, const RandomMatrix& matrix, const RandomRows& in,
            const Part& part) {
  const int width = part.end == LinearEnd::gate ? kPanelRows / 2 : kPanelRows;
  Outputs out;
  out.stride = static_cast<std::size_t>(width) * static_cast<std::size_t>(matrix.packed().panels()) + 5;
  out.values.resize(static_cast<std::size_t>(in.rows()) * out.stride);
  for (std::size_t i = 0; i < out.values.size(); ++i) out.values[i] = before(i);
  const LinearTask task = {.matrix = &matrix.packed(),
                           .in = in.input(),
                           .first_row = part.first_row,
                           .rows = part.rows,
                           .first_panel = part.first_panel,
                           .panels = part.panels,
                           .bias = part.bias,
                           .end = part.end,
                           .activation = part.activation,
                           .out = out.values.data(),
                           .out_stride = out.stride};
  if (product == Product::int8) kernels.linear_int8(task);
  if (product == Product::bf16) kernels.linear_bf16(task);
  if (product == Product::f32) kernels.linear_f32(task);

  const int begin = width * part.first_panel;
  const int end = begin + width * part.panels;
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    const auto row = static_cast<int>(i / out.stride);
    const auto column = static_cast<int>(i % out.stride);
    const bool computed = row >= part.first_row && row < part.first_row + part.rows && column >= begin && column < end;
    if (!computed && out.values[i] != before(i)) {
      ADD_FAILURE() << "wrote to row " << row << ", column " << column;
      break;
    }
  }
  return out;
}

// The bits of a part are those that the same outputs have in `all`.
testing::AssertionResult same_bits(const Outputs& all, const Outputs& some, const Part& part) {
  const int width = part.end == LinearEnd::gate ? kPanelRows / 2 : kPanelRows;
  for (int row = part.first_row; row < part.first_row + part.rows; ++row) {
    for (int column = width * part.first_panel; column < width * (part.first_panel + part.panels); ++column) {
      if (bits_of(all.at(row, column)) != bits_of(some.at(row, column))) {
        return testing::AssertionFailure() << "row " << row << ", column " << column << ": " << all.at(row, column)
                                           << " and " << some.at(row, column);
      }
    }
  }
  return testing::AssertionSuccess();
}

// Every output of a whole product, stored, is within float32's rounding of the sum in double precision.
testing::AssertionResult is_close(Product product, const RandomMatrix& matrix, const RandomRows& in,
                                  const Outputs& out) {
  for (int row = 0; row < in.rows(); ++row) {
    for (int n = 0; n < kPanelRows * matrix.packed().panels(); ++n) {
      const BoundedSum expected = naive_product(product, matrix, n, in, row);
      if (!(std::abs(out.at(row, n) - expected.value()) <= expected.error())) {
        return testing::AssertionFailure() << "row " << row << ", column " << n << ": " << out.at(row, n)
                                           << " is not within " << expected.error() << " of " << expected.value();
      }
    }
  }
  return testing::AssertionSuccess();
}

std::vector<std::string> usable_names() {
  std::vector<std::string> names;
  for (const Kernels* kernels : usable_kernels()) names.emplace_back(kernels->name);
  return names;
}

// Each set that this processor can run.
class LinearTest : public testing::TestWithParam<std::string> {
 protected:
  const Kernels& kernels_ = kernels_named(GetParam());
  std::mt19937 random_{1};
};

INSTANTIATE_TEST_SUITE_P(Sets, LinearTest, testing::ValuesIn(usable_names()),
                         [](const auto& info) { return info.param; });

TEST_P(LinearTest, AgreesWithSumsInDoublePrecision) {
  struct Shape {
    int outputs, columns, rows;
  };
  for (const Case& which : all_cases()) {
    SCOPED_TRACE(describe(which));
    for (const Shape& shape : {Shape{16, 32, 1}, Shape{17, 40, 2}, Shape{33, 256, 3}, Shape{80, 300, 17},
                               Shape{64, 64, 5}, Shape{48, 520, 8}, Shape{112, 32, 33}, Shape{100, 64, 16}}) {
      const RandomMatrix matrix(which.format, shape.outputs, shape.columns, random_);
      const RandomRows in(shape.rows, shape.columns, matrix.padded(), random_);
      const Outputs out = run(kernels_, which.product, matrix, in, whole(matrix, in));
      EXPECT_TRUE(is_close(which.product, matrix, in, out)) << shape.outputs << " x " << shape.columns;
    }
  }
}

TEST_P(LinearTest, RowIsTheSameBitsInAnyBatch) {
  for (const Case& which : all_cases()) {
    SCOPED_TRACE(describe(which));
    const RandomMatrix matrix(which.format, 80, 200, random_);
    const RandomRows in(128, 200, matrix.padded() + kBlockColumns, random_);
    const Outputs all = run(kernels_, which.product, matrix, in, whole(matrix, in));
    for (const int rows : kBatches) {
      Part part = whole(matrix, in);
      part.first_row = (128 - rows) / 3;
      part.rows = rows;
      EXPECT_TRUE(same_bits(all, run(kernels_, which.product, matrix, in, part), part)) << rows << " rows";
    }
  }
}

TEST_P(LinearTest, PanelsAreTheSameBitsInAnyRange) {
  for (const Case& which : all_cases()) {
    SCOPED_TRACE(describe(which));
    const RandomMatrix matrix(which.format, 16 * 7 - 3, 96, random_);
    const RandomRows in(33, 96, matrix.padded(), random_);
    const Outputs all = run(kernels_, which.product, matrix, in, whole(matrix, in));
    for (const int rows : {1, 2, 7, 16, 33}) {
      for (int first = 0; first < 7; ++first) {
        for (int panels = 1; panels <= 7 - first; ++panels) {
          const Part part = {.first_row = 33 - rows, .rows = rows, .first_panel = first, .panels = panels};
          EXPECT_TRUE(same_bits(all, run(kernels_, which.product, matrix, in, part), part))
              << rows << " rows, panels " << first << " to " << first + panels;
        }
      }
    }
  }
}

TEST_P(LinearTest, BiasAndSumsAreAddedAfterwards) {
  for (const Case& which : all_cases()) {
    SCOPED_TRACE(describe(which));
    const RandomMatrix matrix(which.format, 70, 96, random_);
    Floats bias(80);
    for (float& value : bias) value = std::normal_distribution<float>(0.0f, 1.0f)(random_);
    for (const int rows : {1, 2, 6, 13}) {
      const RandomRows in(rows, 96, matrix.padded(), random_);
      Part part = whole(matrix, in);
      const Outputs plain = run(kernels_, which.product, matrix, in, part);
      part.bias = bias.data();
      const Outputs biased = run(kernels_, which.product, matrix, in, part);
      part.end = LinearEnd::add;
      const Outputs added = run(kernels_, which.product, matrix, in, part);
      for (int row = 0; row < rows; ++row) {
        for (int n = 0; n < 80; ++n) {
          const std::size_t index = static_cast<std::size_t>(row) * plain.stride + static_cast<std::size_t>(n);
          ASSERT_EQ(biased.at(row, n), plain.at(row, n) + bias[static_cast<std::size_t>(n)]);
          ASSERT_EQ(added.at(row, n), biased.at(row, n) + before(index));
        }
      }
    }
  }
}

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case Activation::tanh:
      return std::tanh(x);
  }
  return 0.0;
}

// From what is stored without a gate, which the tests above look at.
TEST_P(LinearTest, GateTimesUp) {
  for (const Case& which : all_cases()) {
    SCOPED_TRACE(describe(which));
    const RandomMatrix matrix(which.format, 96, 96, random_);
    const Floats bias(96, 0.125f);
    for (const Activation activation : {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::tanh}) {
      for (const int rows : {1, 2, 3, 9}) {
        const RandomRows in(rows, 96, matrix.padded(), random_);
        for (const int first_panel : {0, 2}) {
          Part part = {.rows = rows, .first_panel = first_panel, .panels = 6 - first_panel, .bias = bias.data()};
          const Outputs both = run(kernels_, which.product, matrix, in, part);
          part.end = LinearEnd::gate;
          part.activation = activation;
          const Outputs gated = run(kernels_, which.product, matrix, in, part);
          for (int row = 0; row < rows; ++row) {
            for (int n = 8 * first_panel; n < 48; ++n) {
              const double gate = both.at(row, n / 16 * 32 + n % 16);
              const double up = both.at(row, n / 16 * 32 + 16 + n % 16);
              ASSERT_NEAR(gated.at(row, n), activated(activation, gate) * up,
                          4.5e-7 * std::max(1.0, std::abs(gate)) * std::abs(up) + 1e-30);
            }
          }
        }
      }
    }
  }
}

// Codes and activations at their ends, where sums of 16 bits would overflow.
TEST_P(LinearTest, ExtremesDoNotSaturate) {
  for (const PackedFormat& format : coded_formats()) {
    SCOPED_TRACE(describe(format));
    for (const Codes codes : {Codes::lowest, Codes::highest}) {
      const RandomMatrix matrix(format, 64, 256, random_, codes);
      for (const int rows : {1, 2, 6}) {
        RandomRows in(rows, 256, 256, random_);
        for (int row = 0; row < rows; ++row) {
          for (int k = 0; k < 256; ++k) in.value(row, k) = row % 3 == 0 || (row % 3 == 1) == (k / 4 % 2 == 0) ? 3 : -3;
        }
        in.fill();
        ASSERT_EQ(std::abs(in.code(0, 0)), 127);
        const Outputs out = run(kernels_, Product::int8, matrix, in, whole(matrix, in));
        EXPECT_TRUE(is_close(Product::int8, matrix, in, out));
      }
    }
  }
}

TEST_P(LinearTest, ZeroAndSubnormalScales) {
  for (const Case& which : all_cases()) {
    if (!which.format.coded()) continue;
    SCOPED_TRACE(describe(which));
    for (const Scales scales : {Scales::zero, Scales::subnormal}) {
      const RandomMatrix matrix(which.format, 64, 256, random_, Codes::random, scales);
      for (const int rows : {1, 5}) {
        const RandomRows in(rows, 256, 256, random_);
        const Outputs out = run(kernels_, which.product, matrix, in, whole(matrix, in));
        EXPECT_TRUE(is_close(which.product, matrix, in, out));
      }
    }
  }
}

TEST_P(LinearTest, WhatIsNotFiniteStaysSo) {
  using Limits = std::numeric_limits<float>;
  for (const Case& which : all_cases()) {
    SCOPED_TRACE(describe(which));
    const RandomMatrix matrix(which.format, 64, 256, random_);
    for (const float bad : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
      RandomRows in(3, 256, 256, random_);
      in.value(1, 77) = bad;
      in.fill();
      const Outputs out = run(kernels_, which.product, matrix, in, whole(matrix, in));
      for (int n = 0; n < 64; ++n) {
        EXPECT_TRUE(std::isfinite(out.at(0, n)) && std::isfinite(out.at(2, n))) << bad << ", column " << n;
        EXPECT_FALSE(std::isfinite(out.at(1, n))) << bad << ", column " << n;
      }
    }
  }
}

// Sums of integers are exact in any order, and what follows has one order everywhere; but the instructions that AVX-512
// and AMX have for bfloat16 round in their own ways.
TEST_P(LinearTest, IsTheSameBitsAsThePlainTwin) {
  for (const Case& which : all_cases()) {
    if (which.product == Product::bf16 && (GetParam() == "avx512" || GetParam() == "amx")) continue;
    SCOPED_TRACE(describe(which));
    const RandomMatrix matrix(which.format, 110, 520, random_);
    const Floats bias(112, -0.75f);
    for (const int rows : {1, 2, 3, 6, 17}) {
      const RandomRows in(rows, 520, matrix.padded(), random_);
      for (const LinearEnd end : {LinearEnd::store, LinearEnd::add, LinearEnd::activate, LinearEnd::gate}) {
        const Part part = {.rows = rows, .panels = end == LinearEnd::gate ? 6 : 7, .bias = bias.data(), .end = end};
        EXPECT_TRUE(same_bits(run(kPortableKernels, which.product, matrix, in, part),
                              run(kernels_, which.product, matrix, in, part), part))
            << rows << " rows";
      }
    }
  }
}

// Codes to the nearest, ties to even, of the largest magnitude's 127th part.
TEST_P(LinearTest, Quantises) {
  constexpr int kColumns = 32 * 400;
  Floats x(kColumns);
  for (int k = 0; k < kColumns; ++k) {
    const int group = k / kBlockColumns;
    const float size = std::ldexp(1.0f, group % 100 - 60);
    float value = std::normal_distribution<float>(0.0f, 1.0f)(random_) * size;
    if (group % 4 == 1) value = static_cast<float>(k % 32 * 8 - 124) * 0.5f;  // 62 is the largest: ties
    if (group % 4 == 2) value = k % 2 == 0 ? size : -size;
    if (group % 64 == 3) value = 0.0f;
    x[static_cast<std::size_t>(k)] = value;
  }
  std::vector<std::int8_t> codes(kColumns, 99);
  Floats scales(kColumns / 32), scaled_sums(kColumns / 32);
  std::vector<std::int32_t> negative_sums(kColumns / 16);
  kernels_.quantise(x.data(), kColumns, codes.data(), scales.data(), scaled_sums.data(), negative_sums.data());
  for (std::size_t group = 0; group < kColumns / 32; ++group) {
    float size = 0.0f;
    for (std::size_t k = 32 * group; k < 32 * group + 32; ++k) size = std::max(size, std::abs(x[k]));
    const float inverse = size == 0.0f ? 0.0f : 127.0f / size;
    int sums[2] = {0, 0};
    for (std::size_t k = 32 * group; k < 32 * group + 32; ++k) {
      ASSERT_EQ(codes[k], std::nearbyint(x[k] * inverse)) << "group " << group << ": " << x[k] << " of " << size;
      sums[k / 16 % 2] += codes[k];
    }
    ASSERT_EQ(scales[group], size / 127.0f);
    ASSERT_EQ(scaled_sums[group], scales[group] * static_cast<float>(sums[0] + sums[1]));
    ASSERT_EQ(negative_sums[2 * group], -sums[0]);
    ASSERT_EQ(negative_sums[2 * group + 1], -sums[1]);
  }
}

TEST_P(LinearTest, QuantisesWhatIsTinyToZero) {
  Floats x(32, 1e-31f);
  std::array<std::int8_t, 32> codes;
  codes.fill(99);
  float scale = -1.0f;
  float scaled_sum = -1.0f;
  std::array<std::int32_t, 2> negative_sums = {99, 99};
  kernels_.quantise(x.data(), 32, codes.data(), &scale, &scaled_sum, negative_sums.data());
  EXPECT_EQ(codes, (std::array<std::int8_t, 32>{}));
  EXPECT_EQ(scaled_sum, 0.0f);
  EXPECT_EQ(negative_sums, (std::array<std::int32_t, 2>{}));
  EXPECT_TRUE(std::isfinite(scale));
}

TEST_P(LinearTest, RoundsToTheNearestBfloat16) {
  Floats x;
  for (const std::uint32_t high : {0u, 1u, 0x80u, 0x3f80u, 0x3f81u, 0x7f7eu, 0x7f7fu, 0x7f80u}) {
    for (const std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      if (high == 0x7f80u && low > 0) continue;
      for (const std::uint32_t sign : {0u, 0x80000000u}) x.push_back(value_of_bits(sign | high << 16 | low));
    }
  }
  for (int i = 0; i < 1000; ++i) x.push_back(std::normal_distribution<float>(0.0f, 5.0f)(random_));
  std::vector<std::uint16_t> out(x.size() + 1, 0x1234);
  kernels_.round_to_bf16(x.data(), x.size(), out.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    // Infinity is where the value after the largest would be.
    const std::uint32_t below = bits_of(x[i]) >> 16;
    const auto place = [](std::uint32_t bits) {
      return (bits & 0x7fffu) == 0x7f80u ? std::ldexp(1.0, 128) : std::abs(double{value_of_bits(bits << 16)});
    };
    const double size = std::isinf(x[i]) ? std::ldexp(1.0, 128) : std::abs(double{x[i]});
    std::uint32_t expected = below;
    if (size > place(below)) {
      const double up = place(below + 1) - size;
      const double down = size - place(below);
      if (up < down || (up == down && below % 2 == 1)) expected = below + 1;
    }
    ASSERT_EQ(out[i], expected) << x[i];
  }
  EXPECT_EQ(out.back(), 0x1234);

  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff80ffffu, 0x7fc00000u}) {
    const float nan = value_of_bits(bits);
    std::uint16_t half = 0;
    kernels_.round_to_bf16(&nan, 1, &half);
    EXPECT_TRUE(std::isnan(value_of_bits(static_cast<std::uint32_t>(half) << 16))) << bits;
  }
}

}  // namespace
}  // namespace cortex
