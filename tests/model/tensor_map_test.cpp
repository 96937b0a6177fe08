#include "model/tensor_map.h"

#include <gtest/gtest.h>

#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr auto kCode = ErrorCode::invalid_weights;

TensorView tensor(const std::string& name, std::vector<std::int64_t> shape, DType dtype = DType::f32) {
  TensorView view;
  view.name = name;
  view.shape = std::move(shape);
  view.dtype = dtype;
  view.bytes = 10;
  return view;
}

TensorMap sample() {
  return {"m.safetensors",
          {tensor("w", {4, 32}, DType::q8_0), tensor("b", {4}, DType::bf16), tensor("n", {32}, DType::q8_0),
           tensor("ids", {4, 32}, DType::i32)}};
}

TEST(TensorMap, HandsOutWhatIsExpected) {
  TensorMap map = sample();
  EXPECT_EQ(map.bytes(), 40u);
  EXPECT_EQ(map.rows("w"), 4);
  EXPECT_EQ(map.take("w", {4, 32}).tensor.dtype, DType::q8_0);
  EXPECT_EQ(map.take("b", {4}).interleaved_heads, 0);
}

TEST(TensorMap, NamesWhatIsMissingOrMisshapen) {
  TensorMap map = sample();
  expect_error(kCode, {"m.safetensors: tensor \"x\": is missing"}, [&] { map.take("x", {1}); });
  expect_error(kCode, {"tensor \"x\": is missing"}, [&] { map.rows("x"); });
  expect_error(kCode, {"\"w\"", "shape [4, 32], expected [32, 4]"}, [&] { map.take("w", {32, 4}); });
}

TEST(TensorMap, WeightsAreFloatsAndMatricesMayBeQuantised) {
  TensorMap map = sample();
  expect_error(kCode, {"\"n\"", "Q8_0 is not one of F32, F16, BF16"}, [&] { map.take("n", {32}); });
  expect_error(kCode, {"\"ids\"", "I32 is not one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K"},
               [&] { map.take("ids", {4, 32}); });
}

TEST(TensorMap, RefusesWhatNobodyTook) {
  TensorMap map = sample();
  map.take("w", {4, 32});
  expect_error(kCode, {"tensor \"b\""}, [&] { map.refuse_rest(); });
  map.ignore_prefix("b");
  expect_error(kCode, {"tensor \"ids\""}, [&] { map.refuse_rest(); });
  map.ignore_suffix("ds");
  expect_error(kCode, {"tensor \"n\""}, [&] { map.refuse_rest(); });
}

TEST(TensorMap, AllTakenOrIgnoredIsFine) {
  TensorMap map("m", {tensor("a.x", {1}), tensor("b.y", {1}), tensor("c", {1})});
  map.ignore_prefix("a.");
  map.ignore_suffix(".y");
  map.take("c", {1});
  map.refuse_rest();
}

TEST(TensorMap, ANameIsIgnoredWholeOrNotAtAll) {
  TensorMap map("m", {tensor("head.weight", {1}), tensor("head.weight_scale", {1})});
  map.ignore("absent");
  map.ignore("head.weight");
  expect_error(kCode, {"tensor \"head.weight_scale\""}, [&] { map.refuse_rest(); });
}

TEST(TensorMap, RefusesATensorThatStandsTwice) {
  expect_error(kCode, {"tensor \"a\": stands twice"}, [] { TensorMap("m", {tensor("a", {1}), tensor("a", {1})}); });
}

// Groups of 64 at 4 bits: rows of 128 values are 16 words and 2 groups.
TensorMap quantised(std::vector<TensorView> more = {}) {
  std::vector<TensorView> tensors = {tensor("x.weight", {6, 16}, DType::u32), tensor("x.scales", {6, 2}, DType::bf16),
                                     tensor("x.biases", {6, 2}, DType::bf16), tensor("norm.weight", {128})};
  tensors.insert(tensors.end(), more.begin(), more.end());
  Quantisation quantisation;
  quantisation.standard = AffineFormat{.bits = 4, .group_elements = 64};
  quantisation.exceptions["wide"] = AffineFormat{.bits = 3, .group_elements = 32};
  quantisation.exceptions["plain"] = std::nullopt;
  return {"m.safetensors", std::move(tensors), quantisation};
}

TEST(TensorMap, TakesGroupsWithTheirScales) {
  TensorMap map = quantised();
  const Weight weight = map.take("x.weight", {6, 128});
  ASSERT_TRUE(weight.groups.has_value());
  EXPECT_EQ(weight.groups->bits, 4);
  EXPECT_EQ(weight.groups->group_elements, 64);
  EXPECT_EQ(weight.tensor.name, "x.weight");
  EXPECT_EQ(weight.groups->scales.name, "x.scales");
  EXPECT_EQ(weight.groups->biases.name, "x.biases");
  EXPECT_EQ(weight.shape(), (std::vector<std::int64_t>{6, 128}));
  EXPECT_FALSE(map.take("norm.weight", {128}).groups.has_value());
  map.refuse_rest();
}

TEST(TensorMap, ALayerMayHaveAFormatOfItsOwnOrNone) {
  TensorMap map = quantised({tensor("wide.weight", {2, 12}, DType::u32), tensor("wide.scales", {2, 4}, DType::f16),
                             tensor("wide.biases", {2, 4}, DType::f16), tensor("plain.weight", {2, 8}),
                             tensor("floats.weight", {2, 128})});
  EXPECT_EQ(map.take("wide.weight", {2, 128}).groups->bits, 3);
  EXPECT_FALSE(map.take("plain.weight", {2, 8}).groups.has_value());
  EXPECT_FALSE(map.take("floats.weight", {2, 128}).groups.has_value());
  EXPECT_TRUE(map.take("x.weight", {6, 128}).groups.has_value());
  map.ignore("norm.weight");
  map.refuse_rest();
}

TEST(TensorMap, GroupsMustBeOfTheShapeTheirFormatCallsFor) {
  TensorMap map = quantised();
  expect_error(kCode, {"m.safetensors: tensor \"x.weight\"", "shape [6, 16], expected [6, 32]", "[6, 256] of 4 bits"},
               [&] { map.take("x.weight", {6, 256}); });
  expect_error(kCode, {"tensor \"x.weight\"", "shape [6, 16], expected [12, 16]"},
               [&] { map.take("x.weight", {12, 128}); });
  expect_error(kCode, {"tensor \"x.weight\"", "rows of 96 elements are not whole groups of 64"},
               [&] { map.take("x.weight", {6, 96}); });
  map = quantised({tensor("y.weight", {6, 16}, DType::u32), tensor("y.scales", {6, 4}, DType::f16),
                   tensor("y.biases", {6, 4}, DType::f16)});
  expect_error(kCode, {"tensor \"y.scales\"", "shape [6, 4], expected [6, 2]", "[6, 128] in groups of 64"},
               [&] { map.take("y.weight", {6, 128}); });
  map = quantised({tensor("y.weight", {6, 16}, DType::u32), tensor("y.scales", {6, 2}, DType::f16),
                   tensor("y.biases", {2, 6}, DType::f16)});
  expect_error(kCode, {"tensor \"y.biases\"", "shape [2, 6], expected [6, 2]"},
               [&] { map.take("y.weight", {6, 128}); });
}

TEST(TensorMap, GroupsMustBeOfTheirTypesAndComplete) {
  TensorMap map = quantised({tensor("y.weight", {6, 16}, DType::u32), tensor("y.scales", {6, 2}, DType::f16)});
  expect_error(kCode, {"tensor \"y.biases\": is missing"}, [&] { map.take("y.weight", {6, 128}); });
  map = quantised({tensor("y.scales", {6, 2}, DType::f16)});
  expect_error(kCode, {"tensor \"y.weight\": is missing"}, [&] { map.take("y.weight", {6, 128}); });
  map = quantised({tensor("y.weight", {6, 16}, DType::i32), tensor("y.scales", {6, 2}, DType::f16),
                   tensor("y.biases", {6, 2}, DType::f16)});
  expect_error(kCode, {"tensor \"y.weight\"", "type I32, but quants are U32"}, [&] { map.take("y.weight", {6, 128}); });
  map = quantised({tensor("y.weight", {6, 16}, DType::u32), tensor("y.scales", {6, 2}, DType::u8),
                   tensor("y.biases", {6, 2}, DType::f16)});
  expect_error(kCode, {"tensor \"y.scales\"", "type U8 is not one of F32, F16, BF16"},
               [&] { map.take("y.weight", {6, 128}); });
}

TEST(TensorMap, ScalesThatNoFormatCallsForAreNotPassedOver) {
  TensorMap map = quantised({tensor("plain.weight", {2, 8}), tensor("plain.scales", {2, 1})});
  map.take("plain.weight", {2, 8});
  map.ignore("norm.weight");
  map.take("x.weight", {6, 128});
  expect_error(kCode, {"tensor \"plain.scales\""}, [&] { map.refuse_rest(); });
}

TEST(TensorMap, TakesStackedMatricesApart) {
  TensorView stacked = tensor("e.weight", {3, 2, 2});
  stacked.bytes = 48;
  stacked.file = memory_file(packed_floats({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  TensorMap map("m", {stacked});
  const std::vector<Weight> weights = map.take_stacked("e.weight", {3, 2, 2});
  ASSERT_EQ(weights.size(), 3u);
  EXPECT_EQ(weights[1].shape(), (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(read_weight(weights[1]), (std::vector<float>{5, 6, 7, 8}));
  EXPECT_EQ(read_weight(weights[2]), (std::vector<float>{9, 10, 11, 12}));
  map.refuse_rest();
  expect_error(kCode, {"\"e.weight\"", "shape [3, 2, 2], expected [2, 2, 3]"},
               [&] { map.take_stacked("e.weight", {2, 2, 3}); });
}

TEST(TensorMap, StackedMatricesMayBeQuantised) {
  std::string blocks;
  for (char value = 1; value <= 4; ++value) blocks += packed<std::uint16_t>(0x3C00) + std::string(32, value);
  TensorView q8 = tensor("q8", {2, 2, 32}, DType::q8_0);
  q8.file = memory_file(blocks);
  q8.bytes = blocks.size();
  TensorView words = tensor("e.weight", {2, 2, 8}, DType::u32), scales = tensor("e.scales", {2, 2, 1}), biases = scales;
  words.file = memory_file(std::string(128, '\x21'));
  scales.file = memory_file(packed_floats({1, 2, 3, 4}));
  biases.name = "e.biases";
  biases.file = memory_file(packed_floats({0, 0, 0.5, 0.25}));
  Quantisation quantisation;
  quantisation.standard = AffineFormat{.bits = 4, .group_elements = 64};
  TensorMap map("m", {q8, words, scales, biases}, quantisation);
  EXPECT_EQ(read_weight(map.take_stacked("q8", {2, 2, 32})[1]).at(32), 4.0f);
  const std::vector<Weight> experts = map.take_stacked("e.weight", {2, 2, 64});
  EXPECT_EQ(experts[1].shape(), (std::vector<std::int64_t>{2, 64}));
  const std::vector<float> values = read_weight(experts[1]);
  EXPECT_EQ(values[0], 3.5f);
  EXPECT_EQ(values[1], 6.5f);
  EXPECT_EQ(values[64], 4.25f);
  map.refuse_rest();
}

}  // namespace
}  // namespace cortex
