#include "model/quantised_blocks.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>

#include "base/error.h"
#include "fakes/test_paths.h"
#include "model/gguf.h"

namespace cortex {
namespace {

constexpr std::array kQuantised = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                                   DType::q8_0, DType::q4_k, DType::q5_k, DType::q6_k};

// Random blocks of every type and what the gguf package makes of them, by tools/make_gguf_fixtures.py.
std::map<std::string, TensorView> random_blocks() {
  std::map<std::string, TensorView> tensors;
  for (TensorView& tensor : read_gguf(real_file_system().open(test_data("gguf/blocks.gguf"))).tensors) {
    tensors[tensor.name] = tensor;
  }
  return tensors;
}

std::vector<float> values_of(const TensorView& tensor, std::int64_t first, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count * tensor.columns()));
  read_rows(tensor, first, count, values);
  return values;
}

TEST(QuantisedBlocks, EveryTypeIsAsGgmlDequantisesIt) {
  const auto tensors = random_blocks();
  for (const DType dtype : kQuantised) {
    const std::string name(layout_of(dtype).name);
    const TensorView& tensor = tensors.at(name);
    const TensorView& expected = tensors.at(name + ".values");
    ASSERT_EQ(tensor.dtype, dtype);
    ASSERT_EQ(tensor.shape, expected.shape) << name;
    EXPECT_EQ(values_of(tensor, 0, tensor.rows()), values_of(expected, 0, tensor.rows())) << name;
  }
}

TEST(QuantisedBlocks, AnyRunOfRows) {
  const auto tensors = random_blocks();
  for (const DType dtype : kQuantised) {
    const std::string name(layout_of(dtype).name);
    const TensorView& tensor = tensors.at(name);
    for (const auto& [first, count] : std::map<std::int64_t, std::int64_t>{{0, 1}, {1, 3}, {4, 1}, {5, 0}}) {
      const auto expected = values_of(tensors.at(name + ".values"), first, count);
      EXPECT_EQ(values_of(tensor, first, count), expected) << name << " from " << first;
      EXPECT_EQ(values_of(rows_of(tensor, first, count), 0, count), expected) << name << " from " << first;
    }
  }
}

TEST(QuantisedBlocks, AnotherTypeIsOurBug) {
  float out = 0.0f;
  const std::byte block{};
  EXPECT_THROW(dequantise(DType::f32, &block, 1, &out), CheckFailure);
  EXPECT_THROW(dequantise(DType::i32, &block, 1, &out), CheckFailure);
}

}  // namespace
}  // namespace cortex
