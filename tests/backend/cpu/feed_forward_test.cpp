#include "backend/cpu/feed_forward.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <random>
#include <vector>

#include "backend/cpu/random_source.h"
#include "backend/cpu/weight_loader.h"

namespace cortex {
namespace {

constexpr int kHidden = 64, kIntermediate = 96, kRows = 700;

// A layer's weights; gate and up are of one format, or each has its own and they are multiplied apart.
class FeedForwardTest : public testing::TestWithParam<bool> {
 protected:
  FeedForwardTest() {
    std::normal_distribution<float> normal;
    input_.resize(std::size_t{kRows} * kHidden);
    for (float& value : input_) value = normal(random_);
  }

  // Rows [first, first + rows) of the input through the layer, on some threads: [rows, outputs].
  std::vector<float> run(int first, int rows, int threads) {
    ThreadTeam team(threads);
    InputRows in;
    in.reshape(rows, kHidden, layer_.first().padded_columns(), layer_.first().products());
    for (int row = 0; row < rows; ++row) {
      std::memcpy(in.row(row), input_.data() + std::ptrdiff_t{first + row} * kHidden, kHidden * sizeof(float));
      in.pack(row);
    }
    const auto stride = static_cast<std::size_t>(layer_.outputs());
    std::vector<float> out(static_cast<std::size_t>(rows) * stride);
    FeedForwardBuffers buffers;
    layer_.run(team, in, rows, buffers, LinearEnd::store, out.data(), stride);
    return out;
  }

  std::mt19937 random_{3};
  RandomSource source_{4};
  const Weight gate_ = source_.blocks(DType::q4_1, kIntermediate, kHidden);
  const Weight up_ = source_.blocks(GetParam() ? DType::q4_1 : DType::q8_0, kIntermediate, kHidden);
  const Weight down_ = source_.blocks(DType::q5_0, kHidden, kIntermediate);
  WeightArena arena_;
  const LoadProgress progress_;
  WeightLoader loader_{arena_, FloatPacking::bf16, 1, progress_};
  const CpuFeedForward layer_{loader_, Arithmetic::fast, Activation::silu, LinearView(gate_), up_, down_};
  std::vector<float> input_;
};

INSTANTIATE_TEST_SUITE_P(Formats, FeedForwardTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "one" : "two"; });

// However many rows there are, and whether threads share them by panels or by rows.
TEST_P(FeedForwardTest, RowIsTheSameBitsOnAnyThreadsAmongAnyRows) {
  ASSERT_EQ(layer_.first().activates(), GetParam());
  const std::vector<float> all = run(0, kRows, 1);
  for (const float value : all) ASSERT_TRUE(std::isfinite(value));
  const auto stride = static_cast<std::size_t>(layer_.outputs());
  for (const int threads : {1, 2, 3}) {
    for (const int rows : {1, 5, 16, 255, 256, 257, 383, 384, 390, 600, kRows}) {
      const int first = (kRows - rows) / 2;
      const std::vector<float> some = run(first, rows, threads);
      EXPECT_EQ(
          std::memcmp(some.data(), all.data() + static_cast<std::size_t>(first) * stride, some.size() * sizeof(float)),
          0)
          << rows << " rows on " << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace cortex
