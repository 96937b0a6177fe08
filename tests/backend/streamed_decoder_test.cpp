// Decoders whose layers are read from disk in every step: the same bits as with all of them in memory, in less memory,
// and an error where the disk fails.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/backends.h"
#include "backend/golden.h"
#include "backend/sequence_runner.h"
#include "base/error.h"
#include "fakes/temporary_folder.h"
#include "fakes/test_paths.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr int kBlocks = 20;

class StreamedDecoderTest : public testing::TestWithParam<std::string> {
 protected:
  static std::filesystem::path model_path(const std::string& name) {
    const std::filesystem::path folder = golden_model(name);
    return std::filesystem::exists(folder / "model.gguf") ? folder / "model.gguf" : folder;
  }

  std::unique_ptr<DecoderBackend> load(DecoderHolding holding) {
    const auto& [spec, weights] = std::get<DecoderModel>(model_.network);
    holding.stream_folder = folder_.path();
    holding.fingerprint = GetParam();
    auto decoder = backend_->load(spec, weights, holding, {});
    decoder->reserve_kv(kBlocks);
    return decoder;
  }
  int layers() const { return static_cast<int>(std::get<DecoderModel>(model_.network).spec.layers.size()); }
  std::vector<float> logits(DecoderBackend& decoder, int chunk) const {
    TestSequence sequence = sequence_on(0, 1, kBlocks, kBlocks);
    return logits_of(decoder, sequence, tokens_, chunk);
  }
  std::filesystem::path packed_file() const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) return entry.path();
    return {};
  }
  void flip_a_byte_of_layers() const {
    std::fstream file(packed_file(), std::ios::in | std::ios::out | std::ios::binary);
    const int byte = file.get();
    file.seekp(0);
    file.put(static_cast<char>(byte ^ 1));
  }

  const TemporaryFolder folder_;
  const Model model_ = open_model(real_file_system(), model_path(GetParam()));
  const std::unique_ptr<Backend> backend_ = open_tested("cpu");
  const std::vector<TokenId> tokens_ = {5, 3, 200, 77, 4, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
};

INSTANTIATE_TEST_SUITE_P(Models, StreamedDecoderTest,
                         testing::Values("llama", "gemma3", "qwen3", "qwen3-moe", "olmo2", "qwen2", "gguf-llama-q8_0",
                                         "gguf-llama-q4_k"));

TEST_P(StreamedDecoderTest, SameBitsAsInMemory) {
  const std::vector<float> expected = logits(*load({}), 0);
  for (int resident = 0; resident <= layers(); ++resident) {
    const auto streamed = load({.resident_layers = resident});
    for (const int chunk : {0, 1, 5, 0}) EXPECT_EQ(logits(*streamed, chunk), expected) << resident;
  }
}

TEST_P(StreamedDecoderTest, SameBitsAsInMemoryWithFewerBits) {
  const DecoderHolding narrow{.weights = WeightPrecision::bits_4, .kv_8_bits = true};
  const std::vector<float> expected = logits(*load(narrow), 0);
  DecoderHolding streamed = narrow;
  streamed.resident_layers = 0;
  for (int times = 0; times < 2; ++times) EXPECT_EQ(logits(*load(streamed), 4), expected);  // packed, then read
}

TEST_P(StreamedDecoderTest, ThePackedFileIsUsedAgainAndMadeAnewWhenItIsDamaged) {
  const std::vector<float> expected = logits(*load({.resident_layers = 0}), 0);
  const auto made = std::filesystem::last_write_time(packed_file());
  EXPECT_EQ(logits(*load({.resident_layers = layers() - 1}), 0), expected);
  EXPECT_EQ(std::filesystem::last_write_time(packed_file()), made);
  flip_a_byte_of_layers();
  EXPECT_EQ(logits(*load({.resident_layers = 0}), 0), expected);
  EXPECT_NE(std::filesystem::last_write_time(packed_file()), made);
}

TEST_P(StreamedDecoderTest, ADamagedFileFailsStepsUntilItIsWhole) {
  const auto streamed = load({.resident_layers = 0});
  const std::vector<float> expected = logits(*streamed, 0);
  flip_a_byte_of_layers();
  const auto step = [&] { return logits(*streamed, 0); };
  // What was read ahead is still good.
  int good = 0;
  std::optional<ErrorCode> code;
  for (int times = 0; times < 3; ++times) {
    try {
      EXPECT_EQ(step(), expected);
      ++good;
    } catch (const Error& error) {
      code = error.code();
    }
  }
  EXPECT_LE(good, 1);
  EXPECT_EQ(code, ErrorCode::weights_io_error);
  flip_a_byte_of_layers();
  EXPECT_EQ(step(), expected);
}

TEST_P(StreamedDecoderTest, HoldsWhatWasPredicted) {
  const auto& network = std::get<DecoderModel>(model_.network);
  for (int resident = 0; resident <= layers(); ++resident) {
    const DecoderHolding holding{.resident_layers = resident};
    const DecoderNeeds needs = backend_->needs(network.spec, network.weights, holding);
    EXPECT_EQ(load(holding)->memory_bytes(), needs.weight_bytes(resident) + kBlocks * needs.kv_block_bytes);
  }
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose shadows count too

std::uint64_t status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoull(line.substr(field.size() + 1)) * 1024;
  }
  return ~std::uint64_t{0};
}

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;

// SmolLM2 in a process of its own, packing and computing included: 0 when the peak is little above what was predicted
// and the tokens are those of all layers in memory.
[[noreturn]] void chat_and_exit(const std::filesystem::path& folder, const std::vector<TokenId>& prompt,
                                const std::vector<TokenId>& expected) {
  const Model model = open_model(real_file_system(), default_model("SmolLM2-135M-Instruct.Q4_1.gguf"));
  const auto& [spec, weights] = std::get<DecoderModel>(model.network);
  const DecoderHolding holding{
      .resident_layers = 4, .rows_per_step = 64, .stream_folder = folder, .fingerprint = "smollm2"};
  const auto backend = open_tested("cpu");
  const DecoderNeeds needs = backend->needs(spec, weights, holding);
  const std::uint64_t before = status_bytes("VmRSS");
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak is from now on
  const auto decoder = backend->load(spec, weights, holding, {});
  decoder->reserve_kv(8);
  TestSequence sequence = sequence_on(0, 1, 8, 8);
  const std::vector<TokenId> tokens = greedy(*decoder, sequence, prompt, expected.size());
  const std::uint64_t peak = status_bytes("VmHWM") - before;
  const std::uint64_t predicted = needs.weight_bytes(4) + 8 * needs.kv_block_bytes + needs.step_bytes;
  std::fprintf(stderr, "%llu MiB predicted, %llu MiB at the peak, of %llu MiB of weights\n",
               static_cast<unsigned long long>(predicted / kMebibyte),
               static_cast<unsigned long long>(peak / kMebibyte),
               static_cast<unsigned long long>(needs.weight_bytes(kAllLayers) / kMebibyte));
  std::_Exit(peak <= predicted + 6 * kMebibyte && tokens == expected ? 0 : 1);
}

TEST(StreamedModel, TakesLittleMemoryAndSaysTheSame) {
  const Model model = open_model(real_file_system(), default_model("SmolLM2-135M-Instruct.Q4_1.gguf"));
  const auto& [spec, weights] = std::get<DecoderModel>(model.network);
  const Golden golden(std::filesystem::path(CORTEX_TEST_DATA) / "goldens" /
                      "smollm2-135m-instruct-q4_1.golden.safetensors");
  const std::vector<TokenId> prompt = golden.ids("ids_0");
  std::vector<TokenId> expected;
  {
    const auto decoder = open_tested("cpu")->load(spec, weights, {});
    decoder->reserve_kv(8);
    TestSequence sequence = sequence_on(0, 1, 8, 8);
    expected = greedy(*decoder, sequence, prompt, 16);
  }
  const TemporaryFolder folder;
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (int times = 0; times < 2; ++times) {  // packed, then read
    EXPECT_EXIT(chat_and_exit(folder.path(), prompt, expected), testing::ExitedWithCode(0), "MiB predicted");
  }
}

#endif

}  // namespace
}  // namespace cortex
