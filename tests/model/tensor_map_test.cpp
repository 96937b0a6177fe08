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
  expect_error(kCode, {"\"ids\"", "I32 is not one of F32, F16, BF16, Q4_1, Q8_0"}, [&] { map.take("ids", {4, 32}); });
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

}  // namespace
}  // namespace cortex
