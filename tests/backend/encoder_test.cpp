// What every EncoderBackend keeps, on each backend that is built.
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/backends.h"
#include "backend/golden.h"
#include "backend/packed.h"
#include "base/error.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr double kTolerance = 2e-5;

class EncoderTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<EncoderBackend> load_golden(const std::string& name, int threads = 2) {
    const Model model = open_model(real_file_system(), golden_model(name));
    const auto& [spec, weights] = std::get<EncoderModel>(model.network);
    return load(spec, weights, threads);
  }

  std::unique_ptr<EncoderBackend> load(const EncoderSpec& spec, const EncoderWeights& weights, int threads = 2) {
    backends_.push_back(open_tested(GetParam(), threads));
    EXPECT_EQ(backends_.back()->lacks(spec), std::nullopt);
    return backends_.back()->load(spec, weights, {});
  }

  static std::vector<float> part(const std::vector<float>& values, std::size_t begin, std::size_t end, int width) {
    const auto row = static_cast<std::ptrdiff_t>(width);
    return {values.begin() + static_cast<std::ptrdiff_t>(begin) * row,
            values.begin() + static_cast<std::ptrdiff_t>(end) * row};
  }

  std::vector<std::unique_ptr<Backend>> backends_;  // outlive what they loaded
};

INSTANTIATE_TEST_SUITE_P(Backends, EncoderTest, testing::ValuesIn(tested_backends()),
                         [](const auto& info) { return info.param; });

TEST_P(EncoderTest, CompanyDoesNotMatter) {
  const Golden golden(golden_model("bert-mean") / "golden.safetensors");
  const auto encoder = load_golden("bert-mean");
  std::vector<std::vector<TokenId>> texts;
  for (const std::string prompt : {"3", "0", "2", "1"}) texts.push_back(golden.ids("ids_" + prompt));
  const PackedTexts packed = pack(texts);
  const EncodeResult together = encode(*encoder, packed);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const EncodeResult alone = encode(*encoder, pack({texts[i]}));
    const auto begin = static_cast<std::size_t>(packed.starts[i]), end = static_cast<std::size_t>(packed.starts[i + 1]);
    expect_same(GetParam(), part(together.pooled, i, i + 1, together.dimensions), alone.pooled, kTolerance, "pooled");
    expect_same(GetParam(), part(together.hidden, begin, end, together.dimensions), alone.hidden, kTolerance, "hidden");
  }
}

TEST_P(EncoderTest, ThreadsDoNotMatter) {
  const Golden golden(golden_model("bert-cls") / "golden.safetensors");
  const PackedTexts texts = pack({golden.ids("ids_2"), golden.ids("ids_0")});
  const EncodeResult one = encode(*load_golden("bert-cls", 1), texts);
  const EncodeResult three = encode(*load_golden("bert-cls", 3), texts);
  expect_same(GetParam(), three.hidden, one.hidden, kTolerance, "hidden");
}

TEST_P(EncoderTest, PoolingFollowsTheSpec) {
  const Model model = open_model(real_file_system(), golden_model("bert-mean"));
  auto [spec, weights] = std::get<EncoderModel>(model.network);
  const Golden golden(golden_model("bert-mean") / "golden.safetensors");
  const PackedTexts texts = pack({golden.ids("ids_0"), golden.ids("ids_3")});
  for (const Pooling pooling : {Pooling::cls, Pooling::mean, Pooling::last_token}) {
    spec.pooling = pooling;
    const EncodeResult result = encode(*load(spec, weights), texts);
    const auto width = static_cast<std::size_t>(result.dimensions);
    for (std::size_t text = 0; text < 2; ++text) {
      const auto begin = static_cast<std::size_t>(texts.starts[text]),
                 end = static_cast<std::size_t>(texts.starts[text + 1]);
      for (std::size_t i = 0; i < width; ++i) {
        double mean = 0.0;
        for (std::size_t row = begin; row < end; ++row)
          mean += result.hidden[row * width + i] / static_cast<double>(end - begin);
        const double expected = pooling == Pooling::cls          ? result.hidden[begin * width + i]
                                : pooling == Pooling::last_token ? result.hidden[(end - 1) * width + i]
                                                                 : mean;
        ASSERT_NEAR(result.pooled[text * width + i], expected, 1e-6);
      }
    }
  }
}

TEST_P(EncoderTest, TokenTypesMatter) {
  const Golden golden(golden_model("bert-mean") / "golden.safetensors");
  const auto encoder = load_golden("bert-mean");
  PackedTexts texts = pack({golden.ids("ids_0")});
  const EncodeResult without = encode(*encoder, texts);
  texts.types.assign(texts.tokens.size(), 0);
  expect_same(GetParam(), encode(*encoder, texts).hidden, without.hidden, 0.0, "types of zero");
  texts.types.back() = 1;
  EXPECT_NE(encode(*encoder, texts).hidden, without.hidden);
}

TEST_P(EncoderTest, HiddenStatesComeWhenWanted) {
  const auto encoder = load_golden("bert-cls");
  PackedTexts texts = pack({{1, 2, 3}});
  texts.hidden = false;
  const EncodeResult result = encode(*encoder, texts);
  EXPECT_TRUE(result.hidden.empty());
  EXPECT_EQ(result.pooled.size(), static_cast<std::size_t>(result.dimensions));
}

TEST_P(EncoderTest, InvalidTextsAreRefused) {
  const auto encoder = load_golden("bert-mean");
  PackedTexts texts = pack({{1, 2}, {1 << 20}});
  try {
    encode(*encoder, texts);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_token_id);
  }
  EXPECT_THROW(encode(*encoder, pack({{1, 2}, {}})), CheckFailure);
  EXPECT_THROW(encode(*encoder, pack({std::vector<TokenId>(5000, 1)})), CheckFailure);
}

}  // namespace
}  // namespace cortex
