#include "model/affine_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "fakes/test_paths.h"
#include "model/safetensors.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;

// What mlx.core.quantize packed, by tools/make_affine_groups.py.
class MlxMatrices {
 public:
  MlxMatrices() {
    for (TensorView& tensor : read_safetensors(real_file_system().open(test_data("affine_groups.safetensors")))) {
      tensors_[tensor.name] = tensor;
    }
  }
  Weight weight(const std::string& name, int bits, int group) const {
    Weight weight{.tensor = tensors_.at(name + ".weight")};
    weight.groups = AffineGroups{tensors_.at(name + ".scales"), tensors_.at(name + ".biases"), bits, group};
    return weight;
  }
  std::vector<float> values(const std::string& name) const {
    const TensorView& tensor = tensors_.at(name + ".values");
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    read_rows(tensor, 0, tensor.rows(), values);
    return values;
  }

 private:
  std::map<std::string, TensorView> tensors_;
};

struct Format {
  int group;
  const char* type;
};
constexpr Format kFormats[] = {{32, "F32"}, {64, "F16"}, {128, "BF16"}};

std::string name_of(int bits, const Format& format) {
  return std::to_string(bits) + "-" + std::to_string(format.group) + "-" + format.type;
}

TEST(ReadGroupRows, EveryWidthAndGroupIsAsMlxPacksIt) {
  const MlxMatrices matrices;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const Format& format : kFormats) {
      const std::string name = name_of(bits, format);
      const Weight weight = matrices.weight(name, bits, format.group);
      EXPECT_EQ(weight.shape(), (std::vector<std::int64_t>{3, 256})) << name;
      EXPECT_EQ(read_weight(weight), matrices.values(name)) << name;
    }
  }
}

TEST(ReadGroupRows, TakesAnyRunOfRows) {
  const MlxMatrices matrices;
  for (const int bits : {3, 4, 5}) {
    for (const Format& format : kFormats) {
      const std::string name = name_of(bits, format);
      const Weight weight = matrices.weight(name, bits, format.group);
      const std::vector<float> all = matrices.values(name);
      std::vector<float> out(512);
      read_group_rows(weight, 1, 2, out);
      EXPECT_EQ(out, std::vector<float>(all.begin() + 256, all.end())) << name;
      EXPECT_EQ(read_weight(rows_of(weight, 1, 2)), out) << name;
      EXPECT_EQ(read_weight(rows_of(weight, 3, 0)), std::vector<float>{}) << name;
    }
  }
}

Weight weight_of(std::int64_t rows, std::int64_t columns, int bits, int group) {
  const auto view = [](std::vector<std::int64_t> shape, DType dtype, const std::string& bytes) {
    TensorView tensor;
    tensor.name = "w";
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.bytes = bytes.size();
    tensor.file = memory_file(bytes);
    return tensor;
  };
  std::string words;
  for (std::int64_t i = 0; i < rows * columns * bits / 32; ++i) words += packed(static_cast<std::uint32_t>(i));
  std::vector<float> scales, biases;
  for (std::int64_t i = 0; i < rows * columns / group; ++i) {
    scales.push_back(1.0f);
    biases.push_back(static_cast<float>(i));
  }
  Weight weight{.tensor = view({rows, columns * bits / 32}, DType::u32, words)};
  weight.groups = AffineGroups{view({rows, columns / group}, DType::f32, packed_floats(scales)),
                               view({rows, columns / group}, DType::f32, packed_floats(biases)), bits, group};
  return weight;
}

// Word i holds i: its lowest byte is the first of four quants.
TEST(ReadGroupRows, LittleEndComesFirst) {
  const std::vector<float> values = read_weight(weight_of(1, 32, 8, 32));
  EXPECT_THAT(std::vector<float>(values.begin() + 4, values.begin() + 12), ElementsAre(1, 0, 0, 0, 2, 0, 0, 0));
}

// Rows of 12 KiB: more than one chunk.
TEST(ReadGroupRows, ChunksMakeNoDifference) {
  const Weight weight = weight_of(300, 4096, 8, 128);
  const std::vector<float> all = read_weight(weight);
  for (std::int64_t row = 0; row < 300; ++row) {
    std::vector<float> out(4096);
    read_group_rows(weight, row, 1, out);
    ASSERT_TRUE(std::equal(out.begin(), out.end(), all.begin() + row * 4096)) << row;
    const auto word = static_cast<std::uint32_t>(row * 1024);
    ASSERT_EQ(out[0], static_cast<float>(word & 255) + static_cast<float>(row * 32)) << row;
  }
}

TEST(ReadGroupRows, OutOfRangeOrMisshapenIsOurBug) {
  Weight weight = weight_of(2, 64, 4, 32);
  std::vector<float> out(64);
  EXPECT_THROW(read_group_rows(weight, 2, 1, out), CheckFailure);
  EXPECT_THROW(read_group_rows(weight, -1, 1, out), CheckFailure);
  EXPECT_THROW(read_group_rows(weight, 0, 2, out), CheckFailure);
  weight.groups->bits = 8;
  EXPECT_THROW(read_group_rows(weight, 0, 1, out), CheckFailure);
  weight = weight_of(2, 64, 4, 32);
  weight.groups->biases.shape = {2, 1};
  EXPECT_THROW(read_group_rows(weight, 0, 1, out), CheckFailure);
}

TEST(ReadGroupRows, ADiskThatFailsIsAnError) {
  for (const int which : {0, 1, 2}) {
    Weight weight = weight_of(2, 64, 4, 32);
    TensorView& cut = which == 0 ? weight.tensor : which == 1 ? weight.groups->scales : weight.groups->biases;
    cut.name = "cut";
    cut.file = memory_file("short");
    expect_error(ErrorCode::weights_io_error, {"tensor \"cut\""}, [&] { read_weight(weight); });
  }
}

}  // namespace
}  // namespace cortex
