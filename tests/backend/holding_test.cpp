// Models held in less memory: what they take is what was predicted, and what they compute is what it should be.
#include "backend/holding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/backends.h"
#include "backend/golden.h"
#include "backend/packed.h"
#include "backend/sequence_runner.h"
#include "base/error.h"
#include "fakes/temporary_folder.h"
#include "fakes/test_paths.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr int kBlocks = 20;
constexpr int kRows = 48;

const std::vector<std::string> kDecoders = {
    "llama", "gemma3",          "qwen3",           "qwen3-moe",       "olmo2",       "phi3",
    "qwen2", "gguf-llama-q8_0", "gguf-llama-q4_k", "gguf-qwen2-q4_1", "qwen3-mlx-q4"};
const std::vector<std::string> kEncoders = {"bert-mean", "modernbert-mean", "xlm-roberta-reranker"};

Model model_named(const std::string& name) {
  const std::filesystem::path folder = golden_model(name);
  const bool is_gguf = std::filesystem::exists(folder / "model.gguf");
  return open_model(real_file_system(), is_gguf ? folder / "model.gguf" : folder);
}

std::vector<TokenId> some_tokens(int count, int vocabulary) {
  std::vector<TokenId> tokens(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) tokens[static_cast<std::size_t>(i)] = (i * 7 + 3) % vocabulary;
  return tokens;
}

// The negative log-likelihood of each next token, on the average.
double surprise(DecoderBackend& decoder, std::span<const TokenId> tokens) {
  TestSequence sequence = sequence_on(3, 7, kBlocks, kBlocks);
  StepPlan plan;
  add_slice(plan, sequence, tokens.first(tokens.size() - 1), WantedRow{});
  for (std::size_t i = 0; i < plan.wanted.size(); ++i) plan.wanted[i].scores = tokens.subspan(i + 1, 1);
  double sum = 0.0;
  for (const RowResult& row : run(decoder, plan)) sum -= row.scores.at(0);
  return sum / static_cast<double>(plan.wanted.size());
}

TEST(Holding, StreamedLayersAreSpreadEvenly) {
  const auto streamed = [](int layers, int resident) {
    std::string text;
    for (int layer = 0; layer < layers; ++layer) text += is_streamed(layer, layers, resident) ? 's' : '.';
    return text;
  };
  EXPECT_EQ(streamed(6, kAllLayers), "......");
  EXPECT_EQ(streamed(6, 6), "......");
  EXPECT_EQ(streamed(6, 4), "..s..s");
  EXPECT_EQ(streamed(7, 4), "..s.s.s");
  EXPECT_EQ(streamed(6, 0), "ssssss");
}

TEST(Holding, WeightsOfStreamedLayersAreTwoOfTheLargest) {
  const DecoderNeeds needs{.fixed_bytes = 1000, .layer_bytes = {10, 20, 30, 40}};
  EXPECT_EQ(needs.weight_bytes(kAllLayers), 1100u);
  EXPECT_EQ(needs.weight_bytes(0), 1080u);
  EXPECT_EQ(needs.weight_bytes(1), 1000u + 10 + 80);  // the first stays
  EXPECT_EQ(needs.weight_bytes(3), 1100u);            // one alone is in memory once
}

class DecoderNeedsTest : public testing::TestWithParam<std::tuple<std::string, WeightPrecision, bool>> {};

INSTANTIATE_TEST_SUITE_P(Models, DecoderNeedsTest,
                         testing::Combine(testing::ValuesIn(kDecoders),
                                          testing::Values(WeightPrecision::as_given, WeightPrecision::bits_8,
                                                          WeightPrecision::bits_4),
                                          testing::Bool()));

// After steps with whole rows of logits and without, of all rows that were planned for.
TEST_P(DecoderNeedsTest, IsWhatTheDecoderThenHolds) {
  const auto& [name, precision, eight_bits] = GetParam();
  const Model model = model_named(name);
  const auto& [spec, weights] = std::get<DecoderModel>(model.network);
  const DecoderHolding holding{.weights = precision, .kv_8_bits = eight_bits, .rows_per_step = kRows};
  const auto backend = open_tested("cpu");
  const DecoderNeeds needs = backend->needs(spec, weights, holding);
  const auto decoder = backend->load(spec, weights, holding, {});
  EXPECT_EQ(decoder->memory_bytes(), needs.weight_bytes(kAllLayers));
  EXPECT_EQ(decoder->kv_geometry().block_bytes, needs.kv_kept_bytes);
  decoder->reserve_kv(kBlocks);
  EXPECT_EQ(decoder->memory_bytes(), needs.weight_bytes(kAllLayers) + kBlocks * needs.kv_block_bytes);
  for (const bool logits : {true, false}) {
    TestSequence sequence = sequence_on(0, 1, kBlocks, kBlocks);
    StepPlan plan;
    WantedRow wanted = logits ? wanted_logits() : WantedRow{};
    wanted.token = true;
    wanted.sampling.params.temperature = 0.0f;
    add_slice(plan, sequence, some_tokens(kRows, spec.vocabulary), wanted);
    run(*decoder, plan);
  }
  const auto held = static_cast<double>(decoder->memory_bytes());
  const auto predicted =
      static_cast<double>(needs.weight_bytes(kAllLayers) + kBlocks * needs.kv_block_bytes + needs.step_bytes);
  EXPECT_LE(held, predicted);
  // A step of experts gives back what it gathers.
  EXPECT_GE(held, spec.experts ? 0.0 : 0.98 * predicted);
}

class EncoderNeedsTest : public testing::TestWithParam<std::tuple<std::string, WeightPrecision>> {};

INSTANTIATE_TEST_SUITE_P(Models, EncoderNeedsTest,
                         testing::Combine(testing::ValuesIn(kEncoders),
                                          testing::Values(WeightPrecision::as_given, WeightPrecision::bits_8,
                                                          WeightPrecision::bits_4)));

TEST_P(EncoderNeedsTest, IsWhatTheEncoderThenHolds) {
  const auto& [name, precision] = GetParam();
  const Model model = model_named(name);
  const auto& [spec, weights] = std::get<EncoderModel>(model.network);
  const auto backend = open_tested("cpu");
  const EncoderNeeds needs = backend->needs(spec, weights, precision);
  const auto encoder = backend->load(spec, weights, precision, {});
  EXPECT_EQ(encoder->memory_bytes(), needs.weight_bytes);
  const int rows = std::max(512, spec.context_tokens);
  std::vector<std::vector<TokenId>> texts(512);  // a block each, then as many rows as pass at once
  for (int i = 0; i < 512; ++i) texts[static_cast<std::size_t>(i)] = {i % spec.vocabulary};
  encode(*encoder, pack(texts));
  texts.assign(static_cast<std::size_t>(512 / 32), some_tokens(32, spec.vocabulary));
  if (spec.context_tokens > 512) texts = {some_tokens(spec.context_tokens, spec.vocabulary)};
  encode(*encoder, pack(texts));
  const auto predicted = static_cast<double>(needs.weight_bytes + needs.step_bytes);
  EXPECT_LE(static_cast<double>(encoder->memory_bytes()), predicted) << rows;
  EXPECT_GE(static_cast<double>(encoder->memory_bytes()), 0.98 * predicted) << rows;
}

#ifdef CORTEX_TEST_MLX_MODULE
TEST(MlxNeeds, AreItsWeightsAndItsPool) {
  const auto backend = open_tested("mlx");
  for (const std::string& name : kDecoders) {
    const Model model = model_named(name);
    const auto& [spec, weights] = std::get<DecoderModel>(model.network);
    const DecoderNeeds needs = backend->needs(spec, weights, {});
    const auto decoder = backend->load(spec, weights, {});
    EXPECT_EQ(decoder->memory_bytes(), needs.weight_bytes(kAllLayers)) << name;
    decoder->reserve_kv(kBlocks);
    EXPECT_EQ(decoder->memory_bytes(), needs.weight_bytes(kAllLayers) + kBlocks * needs.kv_block_bytes) << name;
  }
  for (const std::string& name : kEncoders) {
    const Model model = model_named(name);
    const auto& [spec, weights] = std::get<EncoderModel>(model.network);
    EXPECT_EQ(backend->load(spec, weights, {})->memory_bytes(),
              backend->needs(spec, weights, WeightPrecision::as_given).weight_bytes)
        << name;
  }
}

TEST(MlxHolding, IsAsGivenOnly) {
  const auto backend = open_tested("mlx");
  const Model model = model_named("llama");
  const auto& [spec, weights] = std::get<DecoderModel>(model.network);
  for (const DecoderHolding& holding :
       {DecoderHolding{.weights = WeightPrecision::bits_8}, {.kv_8_bits = true}, {.resident_layers = 0}}) {
    EXPECT_TRUE(backend->lacks(holding));
    try {
      backend->load(spec, weights, holding, {});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::not_supported);
    }
  }
}
#endif

class NarrowTest : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Models, NarrowTest, testing::ValuesIn(kDecoders));

// A tiny model is no harder to predict for than it was, and its memory is less where the file has more bits.
TEST_P(NarrowTest, FewerBitsLoseLittle) {
  const Model model = model_named(GetParam());
  const auto& [spec, weights] = std::get<DecoderModel>(model.network);
  const auto backend = open_tested("cpu");
  const auto given = backend->load(spec, weights, {});
  given->reserve_kv(kBlocks);
  TestSequence sequence = sequence_on(0, 1, kBlocks, kBlocks);
  std::vector<TokenId> tokens = some_tokens(6, spec.vocabulary);
  const std::vector<TokenId> more = greedy(*given, sequence, tokens, 40);
  tokens.insert(tokens.end(), more.begin(), more.end());
  const double expected = surprise(*given, tokens);
  for (const auto& [precision, eight_bits, most] : {std::tuple{WeightPrecision::as_given, true, 0.05},
                                                    {WeightPrecision::bits_8, false, 0.05},
                                                    {WeightPrecision::bits_8, true, 0.08},
                                                    {WeightPrecision::bits_4, true, 0.5}}) {
    const auto narrow = backend->load(spec, weights, {.weights = precision, .kv_8_bits = eight_bits}, {});
    narrow->reserve_kv(kBlocks);
    EXPECT_NEAR(surprise(*narrow, tokens), expected, most) << name_of(precision) << (eight_bits ? ", 8-bit KV" : "");
    const bool other = precision != WeightPrecision::as_given || eight_bits;
    EXPECT_EQ(narrow->kv_geometry().numeric_class == given->kv_geometry().numeric_class &&
                  narrow->kv_geometry().layout == given->kv_geometry().layout,
              !other);
  }
}

TEST(ExactHolding, HasNoFewerBits) {
  const auto backend = open_tested("cpu_exact");
  EXPECT_TRUE(backend->lacks(DecoderHolding{.weights = WeightPrecision::bits_4}));
  EXPECT_TRUE(backend->lacks(DecoderHolding{.kv_8_bits = true}));
  EXPECT_FALSE(backend->lacks(DecoderHolding{.resident_layers = 1}));
}

// Rows on their own, in chunks, among others, and over blocks that came back, with 8-bit KV.
TEST(EightBitKv, RowIsTheSameBitsHoweverItComes) {
  for (const std::string name : {"llama", "gemma3", "mistral-window", "qwen3-moe"}) {
    const Model model = model_named(name);
    const auto& [spec, weights] = std::get<DecoderModel>(model.network);
    const auto decoder = open_tested("cpu")->load(spec, weights, {.kv_8_bits = true}, {});
    decoder->reserve_kv(3 * kBlocks);
    const std::vector<TokenId> tokens = some_tokens(90, spec.vocabulary);
    TestSequence whole = sequence_on(0, 1, kBlocks, 3 * kBlocks);
    const std::vector<float> expected = logits_of(*decoder, whole, tokens);
    for (const int chunk : {1, 7, 16, 33}) {
      TestSequence sequence = sequence_on(5, 7, kBlocks, 3 * kBlocks);
      EXPECT_EQ(worst_difference(logits_of(*decoder, sequence, tokens, chunk), expected), 0.0) << name << chunk;
    }
    // Two sequences that share their first block, in one step.
    const std::vector<BlockId> shared = {whole.blocks.front()};
    TestSequence one = sequence_on(20, 1, kBlocks, 3 * kBlocks), two = sequence_on(40, 1, kBlocks, 3 * kBlocks);
    one.blocks.front() = two.blocks.front() = shared.front();
    one.length = two.length = kBlockTokens;
    StepPlan plan;
    add_slice(plan, one, std::span(tokens).subspan(kBlockTokens, 40), wanted_logits());
    add_slice(plan, two, std::span(tokens).subspan(kBlockTokens, 50), wanted_logits());
    const std::vector<RowResult> rows = run(*decoder, plan);
    const auto vocabulary = static_cast<std::size_t>(spec.vocabulary);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::size_t token = kBlockTokens + (i < 40 ? i : i - 40);
      EXPECT_EQ(
          worst_difference(rows[i].logits, {expected.begin() + static_cast<std::ptrdiff_t>(token * vocabulary),
                                            expected.begin() + static_cast<std::ptrdiff_t>((token + 1) * vocabulary)}),
          0.0)
          << name << i;
    }
    // Out of the pool and back to another place.
    std::vector<std::byte> bytes(6 * decoder->kv_geometry().block_bytes);
    decoder->read_blocks(std::span(whole.blocks).first(6), bytes);
    TestSequence restored = sequence_on(30, 1, kBlocks, 3 * kBlocks);
    decoder->write_blocks(std::span(restored.blocks).first(6), bytes);
    restored.length = 80;
    TestSequence again = restored;
    const std::vector<float> last = logits_of(*decoder, again, std::span(tokens).subspan(80));
    EXPECT_EQ(worst_difference(last, {expected.end() - static_cast<std::ptrdiff_t>(10 * vocabulary), expected.end()}),
              0.0)
        << name;
  }
}

}  // namespace
}  // namespace cortex
