// GGUF models in every type of weights against what transformers computed for their dequantised values
// (tools/make_gguf_fixtures.py), on each backend that is built.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/backends.h"
#include "backend/golden.h"
#include "backend/sequence_runner.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr double kTolerance = 5e-5;  // of logits
constexpr int kReserved = 31;

using BackendAndModel = std::tuple<std::string, std::string>;

class GgufGoldenTest : public testing::TestWithParam<BackendAndModel> {
 protected:
  std::unique_ptr<DecoderBackend> load() {
    const auto& [spec, weights] = std::get<DecoderModel>(model_.network);
    EXPECT_EQ(backend_->lacks(spec), std::nullopt);
    std::unique_ptr<DecoderBackend> decoder = backend_->load(spec, weights, {});
    decoder->reserve_kv(kReserved);
    return decoder;
  }

  const std::filesystem::path folder_ = golden_model(std::get<1>(GetParam()));
  const Model model_ = open_model(real_file_system(), folder_ / "model.gguf");
  const Golden golden_{folder_ / "golden.safetensors"};
  const std::unique_ptr<Backend> backend_ = open_tested(std::get<0>(GetParam()));
};

INSTANTIATE_TEST_SUITE_P(Models, GgufGoldenTest,
                         testing::Combine(testing::ValuesIn(tested_backends()),
                                          testing::Values("gguf-llama-f32", "gguf-llama-f16", "gguf-llama-q8_0",
                                                          "gguf-llama-q4_0", "gguf-llama-q4_k", "gguf-qwen2-bf16",
                                                          "gguf-qwen2-q4_1", "gguf-qwen2-q5_k")),
                         [](const auto& info) {
                           std::string name = std::get<0>(info.param) + "_" + std::get<1>(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(GgufGoldenTest, LogitsAreTheGoldenOnes) {
  const auto decoder = load();
  for (const std::string prompt : {"0", "1", "2"}) {
    TestSequence sequence = sequence_on(0, 1, 8, kReserved);
    expect_near(logits_of(*decoder, sequence, golden_.ids("ids_" + prompt)), golden_.floats("logits_" + prompt),
                kTolerance, "prompt " + prompt);
  }
}

TEST_P(GgufGoldenTest, GreedyContinuationIsTheGoldenOne) {
  const auto decoder = load();
  const std::vector<TokenId> expected = golden_.ids("greedy_0");
  TestSequence sequence = sequence_on(29, 12, 8, kReserved);
  EXPECT_EQ(greedy(*decoder, sequence, golden_.ids("ids_0"), expected.size()), expected);
}

}  // namespace
}  // namespace cortex
