#include "backend/cpu/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "backend/cpu/random_source.h"
#include "base/error.h"
#include "fakes/test_paths.h"
#include "model/float16.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr std::array kBlockTypes = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                                    DType::q8_0, DType::q4_k, DType::q5_k, DType::q6_k};
constexpr std::array kCodeBytes = {CodeBytes::random, CodeBytes::all_00, CodeBytes::all_ff, CodeBytes::all_80,
                                   CodeBytes::all_7f};
constexpr std::array kFloatScales = {FloatScales::random, FloatScales::zero, FloatScales::subnormal};
constexpr std::array kFloatTypes = {DType::f16, DType::bf16, DType::f32};
constexpr std::array kRows = {1, 15, 16, 17, 48};

// Equal as numbers or as bits of what is none.
bool same(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

PackedMatrix pack_one(const Weight& weight, FloatPacking floats, WeightArena& arena) {
  return pack(std::array{&weight}, floats, arena, {});
}

std::vector<float> unpacked_row(const PackedMatrix& matrix, int row) {
  std::vector<float> values(static_cast<std::size_t>(matrix.columns));
  unpack_row(matrix, row, values.data());
  return values;
}

// Panel i of the weight is panel first + i * step of the matrix.
struct Panels {
  int first = 0, step = 1;
};

// Rows and blocks of the matrix are `expected` [rows, columns] and zeros around.
void expect_holds(const PackedMatrix& matrix, const std::vector<float>& expected, Panels panels = {}) {
  const int columns = matrix.columns;
  const int rows = static_cast<int>(expected.size()) / columns;
  const auto expected_at = [&](int row, int column) {
    return expected[static_cast<std::size_t>(row) * static_cast<std::size_t>(columns) +
                    static_cast<std::size_t>(column)];
  };
  for (int row = 0; row < rows; ++row) {
    const int at = (panels.first + row / kPanelRows * panels.step) * kPanelRows + row % kPanelRows;
    const std::vector<float> values = unpacked_row(matrix, at);
    for (int column = 0; column < columns; ++column) {
      ASSERT_TRUE(same(values[static_cast<std::size_t>(column)], expected_at(row, column))) << row << ", " << column;
    }
  }
  for (int panel = 0; panel < padded_rows(rows) / kPanelRows; ++panel) {
    for (int block = 0; block < matrix.blocks(); ++block) {
      float values[kBlockColumns][kPanelRows];
      unpack_block(matrix, panels.first + panel * panels.step, block, values[0]);
      for (int i = 0; i < kBlockColumns * kPanelRows; ++i) {
        const int row = kPanelRows * panel + i % kPanelRows;
        const int column = kBlockColumns * block + i / kPanelRows;
        const float value = values[i / kPanelRows][i % kPanelRows];
        if (row < rows && column < columns) {
          ASSERT_TRUE(same(value, expected_at(row, column))) << row << ", " << column;
        } else {
          ASSERT_EQ(value, 0.0f) << row << ", " << column;
        }
      }
    }
  }
}

void expect_exact(const Weight& weight, FloatPacking floats = FloatPacking::f32) {
  WeightArena arena;
  const PackedMatrix matrix = pack_one(weight, floats, arena);
  EXPECT_EQ(matrix.rows, weight.rows());
  EXPECT_EQ(matrix.columns, weight.columns());
  EXPECT_EQ(matrix.format, packed_format(weight, floats));
  expect_holds(matrix, read_weight(weight));
}

std::string name_of(DType dtype) { return std::string(layout_of(dtype).name); }

TEST(Packing, KeepsEveryBlockType) {
  RandomSource source(1);
  for (const DType dtype : kBlockTypes) {
    const bool super = layout_of(dtype).block_elements == kSuperColumns;
    for (const int rows : kRows) {
      for (const int columns : super ? std::vector{256, 512} : std::vector{32, 64, 96, 576}) {
        SCOPED_TRACE(name_of(dtype) + ", " + std::to_string(rows) + " x " + std::to_string(columns));
        expect_exact(source.blocks(dtype, rows, columns));
      }
    }
  }
}

TEST(Packing, KeepsExtremeBlocks) {
  RandomSource source(2);
  for (const DType dtype : kBlockTypes) {
    for (const CodeBytes codes : kCodeBytes) {
      for (const FloatScales scales : kFloatScales) {
        SCOPED_TRACE(name_of(dtype));
        expect_exact(source.blocks(dtype, 17, 512, codes, scales));
      }
    }
  }
}

TEST(Packing, KeepsEveryAffineFormat) {
  RandomSource source(3);
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      for (const DType scales : kFloatTypes) {
        SCOPED_TRACE(std::to_string(bits) + " bits, groups of " + std::to_string(group) + ", " + name_of(scales));
        for (const int rows : kRows)
          expect_exact(source.affine(bits, group, scales, scales, rows, std::int64_t{3} * group));
        for (const CodeBytes codes : kCodeBytes) {
          for (const FloatScales kind : kFloatScales) {
            expect_exact(source.affine(bits, group, scales, scales, 17, 128, codes, kind));
          }
        }
      }
    }
  }
}

TEST(Packing, ScalesAndBiasesOfTwoTypesAreFloats) {
  RandomSource source(4);
  const Weight weight = source.affine(4, 64, DType::f16, DType::bf16, 17, 128);
  EXPECT_EQ(packed_format(weight, FloatPacking::f32).scales, ScaleKind::f32);
  expect_exact(weight);
}

TEST(Packing, KeepsFloats) {
  RandomSource source(5);
  for (const DType dtype : kFloatTypes) {
    for (const int rows : kRows) {
      for (const int columns : {1, 31, 32, 33, 100}) {
        for (const FloatScales kind : kFloatScales) {
          SCOPED_TRACE(name_of(dtype) + ", " + std::to_string(rows) + " x " + std::to_string(columns));
          expect_exact({source.floats(dtype, rows, columns, kind)});
        }
      }
    }
  }
}

TEST(Packing, KeepsBfloat16AsItIs) {
  RandomSource source(6);
  for (const int rows : kRows) {
    for (const int columns : {1, 31, 32, 33, 100}) {
      expect_exact({source.floats(DType::bf16, rows, columns)}, FloatPacking::bf16);
    }
  }
}

// All float16 there are, infinities and what is no number included.
TEST(Packing, WidensEveryFloat16) {
  std::vector<std::uint8_t> bytes(std::size_t{2} << 16);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(i % 2 == 0 ? i / 2 % 256 : i / 512);
  }
  expect_exact({stored(DType::f16, {256, 256}, std::move(bytes))});
}

TEST(Packing, RoundsToTheNearestBfloat16) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {1.0f,
                                     -1.0f,
                                     0x1.01p0f,
                                     0x1.03p0f,
                                     0x1.010002p0f,
                                     0x1.02fffep0f,
                                     -0x1.01p0f,
                                     0x1.fffp0f,
                                     0x1.8p-130f,
                                     0x1.fffffep127f,
                                     kInfinity,
                                     nan,
                                     std::bit_cast<float>(0x7F800001u)};
  const std::vector<float> rounded = {1.0f,
                                      -1.0f,
                                      1.0f,
                                      0x1.04p0f,
                                      0x1.02p0f,
                                      0x1.02p0f,
                                      -1.0f,
                                      2.0f,
                                      0x1.8p-130f,
                                      kInfinity,
                                      kInfinity,
                                      nan,
                                      std::bit_cast<float>(0x7FC00000u)};
  WeightArena arena;
  const auto columns = static_cast<std::int64_t>(values.size());
  expect_holds(pack_one({stored_floats({1, columns}, values)}, FloatPacking::bf16, arena), rounded);
}

// Scale 1, so that what is rounded shows.
TEST(Packing, EightBitsAreRoundedToNearest) {
  std::vector<float> values(kBlockColumns, 0.0f);
  const std::vector<float> some = {127.0f, -127.0f, 0.4f, 0.5f, 0.6f, 1.5f, -2.5f, -126.6f};
  const std::vector<float> rounded = {127.0f, -127.0f, 0.0f, 0.0f, 1.0f, 2.0f, -2.0f, -127.0f};
  std::copy(some.begin(), some.end(), values.begin());
  std::vector<float> expected(kBlockColumns, 0.0f);
  std::copy(rounded.begin(), rounded.end(), expected.begin());
  WeightArena arena;
  const PackedMatrix matrix = pack_one({stored_floats({1, kBlockColumns}, values)}, FloatPacking::codes8, arena);
  EXPECT_EQ(matrix.format, (PackedFormat{8, 32, ScaleKind::f16, false, 7}));
  expect_holds(matrix, expected);
}

TEST(Packing, FourBitsCountFromTheLowest) {
  std::vector<float> values(kBlockColumns);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = -3.0f + 0.5f * static_cast<float>(i % 16);
  std::vector<float> near = values;
  near[4] += 0.2f;
  near[9] -= 0.2f;
  WeightArena arena;
  const PackedMatrix matrix = pack_one({stored_floats({1, kBlockColumns}, near)}, FloatPacking::codes4, arena);
  EXPECT_EQ(matrix.format, (PackedFormat{4, 32, ScaleKind::f16, true, 0}));
  expect_holds(matrix, values);
}

struct Span {
  float lowest, highest, largest;  // of a group
};

Span span_of(std::span<const float> group) {
  const auto [lowest, highest] = std::ranges::minmax(group);
  return {lowest, highest, std::max(std::abs(lowest), std::abs(highest))};
}

// Half a step, and what rounding the scale and the minimum to float16 adds at the far end.
double largest_error(FloatPacking floats, const Span& span) {
  const double range = double{span.highest} - double{span.lowest};
  if (floats == FloatPacking::codes8) return span.largest / 127.0 * (0.5 + 127.0 / 2048.0) + 127.0 * 0x1p-25;
  return range / 15.0 * (0.5 + 15.0 / 2048.0) + span.largest / 2048.0 + 16.0 * 0x1p-25;
}

TEST(Packing, RequantisedFloatsAreNear) {
  RandomSource source(7);
  for (const FloatPacking floats : {FloatPacking::codes8, FloatPacking::codes4}) {
    for (const DType dtype : kFloatTypes) {
      for (const FloatScales kind : kFloatScales) {
        for (const int columns : {1, 32, 40, 96}) {
          const Weight weight{source.floats(dtype, 17, columns, kind)};
          const std::vector<float> exact = read_weight(weight);
          WeightArena arena;
          const PackedMatrix matrix = pack_one(weight, floats, arena);
          for (int row = 0; row < 17; ++row) {
            const std::vector<float> values = unpacked_row(matrix, row);
            const std::span exact_row = std::span(exact).subspan(
                static_cast<std::size_t>(row) * static_cast<std::size_t>(columns), static_cast<std::size_t>(columns));
            for (std::size_t i = 0; i < values.size(); ++i) {
              const std::size_t first = i / kBlockColumns * kBlockColumns;
              const std::span group = exact_row.subspan(first, std::min<std::size_t>(32, values.size() - first));
              ASSERT_NEAR(values[i], exact_row[i], largest_error(floats, span_of(group))) << row << ", " << i;
            }
          }
        }
      }
    }
  }
}

// Codes of six bits and more become four by way of the floats that they stand for; fewer stay as they are.
TEST(Packing, WiderCodesBecomeFour) {
  RandomSource source(11);
  std::vector<Weight> weights;
  for (const DType dtype : kBlockTypes) weights.push_back(source.blocks(dtype, 48, 512));
  for (const int bits : {2, 4, 5, 6, 8}) {
    weights.push_back(source.affine(bits, 64, DType::f16, DType::f16, 48, 512));
  }
  for (Weight& weight : weights) {
    for (const int heads : {0, 3}) {
      weight.interleaved_heads = heads;
      const PackedFormat given = packed_format(weight, FloatPacking::bf16);
      EXPECT_EQ(packed_format(weight, FloatPacking::codes8), given);
      const bool is_wider = given.bits > 5;
      const PackedFormat four = packed_format(weight, FloatPacking::codes4);
      EXPECT_EQ(four == given, !is_wider);
      if (!is_wider) continue;
      EXPECT_EQ(four, (PackedFormat{.bits = 4, .minima = true}));
      Weight floats{stored_floats({48, 512}, read_weight(weight))};
      WeightArena arena;
      const PackedMatrix narrow = pack_one(weight, FloatPacking::codes4, arena);
      const PackedMatrix twin = pack_one(floats, FloatPacking::codes4, arena);
      for (int row = 0; row < 48; ++row) EXPECT_EQ(unpacked_row(narrow, row), unpacked_row(twin, row)) << row;
    }
  }
}

TEST(Packing, WhatIsLaidOutIsWhatIsPacked) {
  RandomSource source(12);
  const Weight first = source.blocks(DType::q8_0, 17, 96), second = source.blocks(DType::q8_0, 17, 96);
  for (const FloatPacking floats : {FloatPacking::bf16, FloatPacking::codes4}) {
    WeightArena arena, same_arena, measuring = WeightArena::measuring();
    const std::array parts{&first, &second};
    const PackedMatrix stacked = pack(parts, floats, arena, {});
    const PackedMatrix paired = pack_interleaved(first, second, floats, arena, {});
    for (WeightArena* other : {&same_arena, &measuring}) {
      const PackedMatrix laid_out = lay_out(parts, floats, *other);
      const PackedMatrix laid_out_pair = lay_out_interleaved(first, second, floats, *other);
      EXPECT_EQ(laid_out.format, stacked.format);
      EXPECT_EQ(laid_out.rows, stacked.rows);
      EXPECT_EQ(laid_out_pair.rows, paired.rows);
      EXPECT_EQ(other->bytes_used(), arena.bytes_used());
      if (other == &same_arena) {
        EXPECT_EQ(laid_out_pair.data - laid_out.data, paired.data - stacked.data);
      } else {
        EXPECT_EQ(laid_out.data, nullptr);
      }
    }
  }
}

TEST(Packing, AnAbsurdFloatStaysInRange) {
  std::vector<float> values(kBlockColumns, 1.0f);
  values[0] = std::numeric_limits<float>::infinity();
  values[1] = -1e30f;
  values[2] = std::numeric_limits<float>::quiet_NaN();
  WeightArena arena;
  const PackedMatrix matrix = pack_one({stored_floats({1, kBlockColumns}, values)}, FloatPacking::codes8, arena);
  const std::vector<float> unpacked = unpacked_row(matrix, 0);
  EXPECT_EQ(unpacked[0], 127.0f * 65504.0f);
  EXPECT_EQ(unpacked[1], -127.0f * 65504.0f);
  EXPECT_EQ(unpacked[3], 0.0f);
}

// Rows of 612 bytes: three slabs.
TEST(Packing, SlabsMakeNoDifference) {
  RandomSource source(8);
  Weight weight = source.blocks(DType::q8_0, 1000, 576);
  expect_exact(weight);
  weight.interleaved_heads = 100;
  expect_exact(weight);
  expect_exact(source.affine(8, 64, DType::f16, DType::f16, 600, 576));
}

TEST(Packing, InterleavedHeadsAreSetRight) {
  RandomSource source(9);
  for (const int head_rows : {2, 6, 16, 24, 40, 64}) {
    for (const int heads : {1, 3}) {
      SCOPED_TRACE(std::to_string(heads) + " heads of " + std::to_string(head_rows));
      Weight weight = source.blocks(DType::q4_1, std::int64_t{heads} * head_rows, 64);
      weight.interleaved_heads = heads;
      expect_exact(weight);
      Weight groups = source.affine(4, 32, DType::bf16, DType::bf16, std::int64_t{heads} * head_rows, 64);
      groups.interleaved_heads = heads;
      expect_exact(groups);
    }
  }
}

TEST(Packing, TakesRunsOfRows) {
  RandomSource source(10);
  expect_exact(rows_of(source.blocks(DType::q6_k, 40, 256), 7, 20));
  expect_exact(rows_of(source.affine(5, 64, DType::f32, DType::f32, 40, 128), 7, 20));
  Weight experts = source.blocks(DType::q4_k, 32, 256);
  experts.tensor.shape = {4, 8, 256};
  expect_exact(rows_of(experts, 16, 8));
}

TEST(Packing, EachPartBeginsAtAPanel) {
  RandomSource source(11);
  for (const DType dtype : kBlockTypes) {
    Weight query = source.blocks(dtype, 36, 256);
    query.interleaved_heads = 3;
    const Weight key = source.blocks(dtype, 5, 256), value = source.blocks(dtype, 16, 256);
    WeightArena arena;
    std::size_t packed = 0;
    const PackedMatrix matrix = pack(std::array<const Weight*, 3>{&query, &key, &value}, FloatPacking::f32, arena,
                                     [&](std::size_t elements) { packed += elements; });
    EXPECT_EQ(matrix.rows, padded_rows(36) + padded_rows(5) + 16);
    EXPECT_EQ(packed, std::size_t{57} * 256);
    expect_holds(matrix, read_weight(query));
    expect_holds(matrix, read_weight(key), {.first = 3});
    expect_holds(matrix, read_weight(value), {.first = 4});
  }
}

TEST(Packing, InterleavesPanels) {
  RandomSource source(12);
  for (const int rows : {1, 16, 17, 48}) {
    const Weight gate = source.blocks(DType::q5_k, rows, 512), up = source.blocks(DType::q5_k, rows, 512);
    WeightArena arena;
    std::size_t packed = 0;
    const PackedMatrix matrix =
        pack_interleaved(gate, up, FloatPacking::f32, arena, [&](std::size_t elements) { packed += elements; });
    EXPECT_EQ(matrix.rows, 2 * padded_rows(rows));
    EXPECT_EQ(packed, static_cast<std::size_t>(rows) * 1024);
    expect_holds(matrix, read_weight(gate), {.first = 0, .step = 2});
    expect_holds(matrix, read_weight(up), {.first = 1, .step = 2});
  }
}

double bits_per_weight(const Weight& weight, FloatPacking floats) {
  const PackedMatrix matrix{.format = packed_format(weight, floats), .rows = 16, .columns = 512};
  return static_cast<double>(matrix.panel_bytes()) * 8 / (16 * 512);
}

TEST(Packing, TakesAboutWhatTheFileTakes) {
  RandomSource source(13);
  const std::array<double, kBlockTypes.size()> bits = {4.5, 5.0, 5.5, 6.0, 8.5, 4.625, 5.625, 6.5625};
  for (std::size_t i = 0; i < bits.size(); ++i) {
    EXPECT_EQ(bits_per_weight(source.blocks(kBlockTypes[i], 1, 512), FloatPacking::f32), bits[i])
        << name_of(kBlockTypes[i]);
  }
  const auto affine_bits = [&](int bits, int group, DType scales) {
    return bits_per_weight(source.affine(bits, group, scales, scales, 1, 512), FloatPacking::f32);
  };
  EXPECT_EQ(affine_bits(2, 32, DType::f16), 5.0);
  EXPECT_EQ(affine_bits(4, 64, DType::bf16), 4.5);
  EXPECT_EQ(affine_bits(5, 128, DType::f16), 5.25);
  EXPECT_EQ(affine_bits(6, 128, DType::f32), 6.5);
  EXPECT_EQ(affine_bits(8, 32, DType::f32), 10.0);
  const Weight floats{source.floats(DType::f32, 1, 512)};
  EXPECT_EQ(bits_per_weight(floats, FloatPacking::f32), 32.0);
  EXPECT_EQ(bits_per_weight(floats, FloatPacking::bf16), 16.0);
  EXPECT_EQ(bits_per_weight(floats, FloatPacking::codes8), 8.5);
  EXPECT_EQ(bits_per_weight(floats, FloatPacking::codes4), 5.0);
}

TEST(Packing, PartsThatDoNotMatchAreOurBug) {
  RandomSource source(14);
  WeightArena arena;
  const Weight weight = source.blocks(DType::q4_0, 16, 256);
  const auto pack_with = [&](const Weight& other) { pack(std::array{&weight, &other}, FloatPacking::f32, arena, {}); };
  EXPECT_THROW(pack_with(source.blocks(DType::q4_1, 16, 256)), CheckFailure);
  EXPECT_THROW(pack_with(source.blocks(DType::q4_0, 16, 512)), CheckFailure);
  const auto interleave_with = [&](const Weight& other) {
    pack_interleaved(weight, other, FloatPacking::f32, arena, {});
  };
  EXPECT_THROW(interleave_with(source.blocks(DType::q4_k, 16, 256)), CheckFailure);
  EXPECT_THROW(interleave_with(source.blocks(DType::q4_0, 32, 256)), CheckFailure);
  EXPECT_THROW(packed_format({.tensor = {.name = "w", .dtype = DType::i32, .shape = {1, 32}}}, FloatPacking::f32),
               CheckFailure);
}

TEST(Packing, ADiskThatFailsIsAnError) {
  RandomSource source(15);
  for (const int which : {0, 1, 2}) {
    Weight weight = source.affine(4, 32, DType::f16, DType::f16, 16, 64);
    TensorView& cut = which == 0 ? weight.tensor : which == 1 ? weight.groups->scales : weight.groups->biases;
    cut.offset = 1;
    WeightArena arena;
    try {
      pack_one(weight, FloatPacking::f32, arena);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::weights_io_error);
    }
  }
}

class RealModelPackingTest : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Models, RealModelPackingTest,
                         testing::Values("SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"),
                         [](const auto& info) { return info.param.substr(0, info.param.find('-')); });

TEST_P(RealModelPackingTest, TakesAboutWhatItsFileTakes) {
  const Model model = open_model(real_file_system(), default_model(GetParam()));
  const DecoderWeights& weights = std::get<DecoderModel>(model.network).weights;
  WeightArena arena;
  std::uint64_t file_bytes = 0;
  const auto take = [&](const Weight& weight) {
    pack_one(weight, FloatPacking::f32, arena);
    file_bytes += weight.tensor.bytes;
  };
  take(weights.embedding);
  if (weights.head) take(*weights.head);
  for (const DecoderLayerWeights& layer : weights.layers) {
    for (const Weight* weight : {&layer.query, &layer.key, &layer.value, &layer.output}) take(*weight);
    for (const auto* weight : {&layer.gate, &layer.up, &layer.down}) take(weight->value());
  }
  EXPECT_GT(file_bytes, std::uint64_t{80} << 20);
  EXPECT_LE(static_cast<double>(arena.bytes_used()), 1.05 * static_cast<double>(file_bytes));
}

}  // namespace
}  // namespace cortex
