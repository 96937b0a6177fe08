// How much memory loading takes at its worst, on each backend that is built.
#include <gtest/gtest.h>

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose shadows count too

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <memory>
#include <string>

#include "backend/backend.h"
#include "backend/backends.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;

// Any number of zeros, which take no memory.
class Zeros : public RandomAccessFile {
 public:
  const std::filesystem::path& path() const override { return path_; }
  std::uint64_t size_bytes() const override { return std::numeric_limits<std::uint64_t>::max(); }
  void read(std::uint64_t, std::span<std::byte> out) const override { std::ranges::fill(out, std::byte{0}); }

 private:
  std::filesystem::path path_ = "zeros";
};

std::uint64_t status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoull(line.substr(field.size() + 1)) * 1024;
  }
  return std::numeric_limits<std::uint64_t>::max();
}

class LoadPeakTest : public testing::TestWithParam<std::string> {
 protected:
  // A matrix of the file, and its share of the sum.
  Weight weight(std::int64_t rows, std::int64_t columns) {
    TensorView tensor{.name = "zeros", .dtype = DType::f32, .shape = {rows, columns}};
    if (rows == 1) tensor.shape = {columns};
    tensor.file = std::make_shared<Zeros>();
    tensor.bytes = static_cast<std::uint64_t>(rows * columns) * sizeof(float);
    weight_bytes_ += tensor.bytes;
    return {tensor};
  }

  void set_up_model() {
    spec_.vocabulary = 16384;
    spec_.hidden = 1024;
    spec_.heads = spec_.kv_heads = 1;
    spec_.head_dim = spec_.rope.dims = 64;
    spec_.intermediate = 8192;
    spec_.context_tokens = 16;
    spec_.layers.resize(1);
    weights_.embedding = weight(spec_.vocabulary, spec_.hidden);
    weights_.head = weight(spec_.vocabulary, spec_.hidden);
    weights_.final_norm = weight(1, spec_.hidden);
    DecoderLayerWeights& layer = weights_.layers.emplace_back();
    layer.attention_norm = layer.mlp_norm = weight(1, spec_.hidden);
    layer.query = layer.key = layer.value = weight(spec_.head_dim, spec_.hidden);
    layer.query.interleaved_heads = layer.key.interleaved_heads = 1;
    layer.output = weight(spec_.hidden, spec_.head_dim);
    layer.gate = weight(spec_.intermediate, spec_.hidden);
    layer.up = weight(spec_.intermediate, spec_.hidden);
    layer.down = weight(spec_.hidden, spec_.intermediate);
  }

  // In a process of its own: 0 when the peak is little above the weights.
  [[noreturn]] void load_and_exit() {
    set_up_model();
    const auto backend = open_tested(GetParam());
    const std::uint64_t before = status_bytes("VmRSS");
    const auto decoder = backend->load(spec_, weights_, {});
    const std::uint64_t peak = status_bytes("VmHWM") - before;
    const bool is_well = peak >= weight_bytes_ / 2 && peak <= weight_bytes_ + weight_bytes_ / 20 + 8 * kMegabyte;
    std::fprintf(stderr, "%llu MiB of weights, %llu MiB at the peak\n",
                 static_cast<unsigned long long>(weight_bytes_ / kMegabyte),
                 static_cast<unsigned long long>(peak / kMegabyte));
    std::_Exit(is_well ? 0 : 1);
  }

  DecoderSpec spec_;
  DecoderWeights weights_;
  std::uint64_t weight_bytes_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Backends, LoadPeakTest, testing::ValuesIn(tested_backends()),
                         [](const auto& info) { return info.param; });

TEST_P(LoadPeakTest, IsLittleAboveTheWeights) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(load_and_exit(), testing::ExitedWithCode(0), "MiB at the peak");
}

}  // namespace
}  // namespace cortex

#endif
