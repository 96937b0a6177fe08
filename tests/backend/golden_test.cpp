// Every model under tests/data/models against what transformers computed for it, on each backend that is built. A new
// family is a line in one of the lists below.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/backends.h"
#include "backend/golden.h"
#include "backend/packed.h"
#include "backend/sequence_runner.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr double kLogitTolerance = 5e-5;
constexpr double kStateTolerance = 2e-5;
constexpr double kScoreTolerance = 1e-4;
constexpr double kRoundedScoreTolerance =
    0.03;  // with products of rounded values: a score is one logit, or two's difference
constexpr int kReserved = 61;
constexpr int kBlocks = 20;  // of a sequence

const std::vector<std::string> kDecoders = {
    "gemma3",
    "gemma3-old",
    "gguf-llama-f16",
    "gguf-llama-f32",
    "gguf-llama-q4_0",
    "gguf-llama-q4_k",
    "gguf-llama-q8_0",
    "gguf-qwen2-bf16",
    "gguf-qwen2-q4_1",
    "gguf-qwen2-q5_k",
    "llama",
    "llama-mlx-q4",
    "llama-mlx-q8",
    "llama3-rope",
    "llama3-rope-old",
    "mistral",
    "mistral-window",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3-mlx-q4",
    "qwen3-mlx-q8",
    "qwen3-moe",
    "qwen3-moe-old",
};
const std::vector<std::string> kDecoderEmbedders = {"qwen3-embedding"};
const std::vector<std::string> kDecoderRerankers = {"qwen3-reranker"};
const std::vector<std::string> kEncoders = {"bert-cls", "bert-mean", "modernbert-mean", "xlm-roberta-cls"};
const std::vector<std::string> kEncoderRerankers = {"bert-reranker", "modernbert-reranker", "xlm-roberta-reranker"};

using BackendAndModel = std::tuple<std::string, std::string>;

std::string test_name(const testing::TestParamInfo<BackendAndModel>& info) {
  std::string name = std::get<0>(info.param) + "_" + std::get<1>(info.param);
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

class GoldenTest : public testing::TestWithParam<BackendAndModel> {
 protected:
  const std::string& backend_name() const { return std::get<0>(GetParam()); }
  std::filesystem::path folder() const { return golden_model(std::get<1>(GetParam())); }

  std::filesystem::path model_path() const {
    const std::filesystem::path gguf = folder() / "model.gguf";
    return std::filesystem::exists(gguf) ? gguf : folder();
  }

  std::unique_ptr<DecoderBackend> load_decoder() {
    const auto& [spec, weights] = std::get<DecoderModel>(model_.network);
    EXPECT_EQ(backend_->lacks(spec), std::nullopt);
    std::unique_ptr<DecoderBackend> decoder = backend_->load(spec, weights, {});
    decoder->reserve_kv(kReserved);
    return decoder;
  }

  std::unique_ptr<EncoderBackend> load_encoder() {
    const auto& [spec, weights] = std::get<EncoderModel>(model_.network);
    EXPECT_EQ(backend_->lacks(spec), std::nullopt);
    return backend_->load(spec, weights, {});
  }

  // "0", "1", ...
  std::vector<std::string> prompts() const {
    std::vector<std::string> prompts;
    while (golden_.has("ids_" + std::to_string(prompts.size()))) prompts.push_back(std::to_string(prompts.size()));
    EXPECT_GE(prompts.size(), 3u);
    return prompts;
  }

  // Tells the worst difference of the test, in its XML.
  void expect_golden(const std::vector<float>& got, const std::vector<float>& expected, double tolerance,
                     const std::string& what) {
    expect_near_on(backend_name(), got, expected, tolerance, what);
    worst_ = std::max(worst_, worst_difference(got, expected));
    worst_relative_ = std::max(worst_relative_, relative_difference(got, expected));
    RecordProperty("worst_difference", std::to_string(worst_ * 1e6) + "e-6");
    RecordProperty("worst_relative_difference", std::to_string(worst_relative_));
  }

  void expect_scores(const std::vector<float>& got, const std::vector<float>& expected, const std::string& what) {
    expect_near(got, expected, backend_name() == "cpu" ? kRoundedScoreTolerance : kScoreTolerance, what);
    worst_ = std::max(worst_, worst_difference(got, expected));
    RecordProperty("worst_difference", std::to_string(worst_ * 1e6) + "e-6");
  }

  const Model model_ = open_model(real_file_system(), model_path());
  const Golden golden_{folder() / "golden.safetensors"};
  const std::unique_ptr<Backend> backend_ = open_tested(backend_name());
  double worst_ = 0.0, worst_relative_ = 0.0;
};

std::vector<float> concatenated(const std::vector<std::vector<float>>& parts) {
  std::vector<float> whole;
  for (const std::vector<float>& part : parts) whole.insert(whole.end(), part.begin(), part.end());
  return whole;
}

void normalise(std::vector<float>& vector) {
  double squares = 0.0;
  for (const float value : vector) squares += static_cast<double>(value) * value;
  for (float& value : vector) value = static_cast<float>(value / std::sqrt(squares));
}

class DecoderGoldenTest : public GoldenTest {};

INSTANTIATE_TEST_SUITE_P(Models, DecoderGoldenTest,
                         testing::Combine(testing::ValuesIn(tested_backends()), testing::ValuesIn(kDecoders)),
                         test_name);

TEST_P(DecoderGoldenTest, LogitsAloneAndInChunks) {
  const auto decoder = load_decoder();
  for (const std::string& prompt : prompts()) {
    const std::vector<TokenId> ids = golden_.ids("ids_" + prompt);
    const std::vector<float> expected = golden_.floats("logits_" + prompt);
    TestSequence sequence = sequence_on(0, 1, kBlocks, kReserved);
    expect_golden(logits_of(*decoder, sequence, ids), expected, kLogitTolerance, "prompt " + prompt);
    for (const int chunk : {1, 7, 16}) {
      TestSequence scrambled = sequence_on(29, 12, kBlocks, kReserved);
      expect_golden(logits_of(*decoder, scrambled, ids, chunk), expected, kLogitTolerance,
                    "prompt " + prompt + " in chunks of " + std::to_string(chunk));
    }
  }
}

TEST_P(DecoderGoldenTest, LogitsTogether) {
  const auto decoder = load_decoder();
  StepPlan plan;
  std::vector<TestSequence> sequences;
  std::vector<std::vector<float>> expected, got;
  for (int i = 0; i < 4; ++i) sequences.push_back(sequence_on(15 * i, 1, 15, kReserved));
  for (const std::string& prompt : prompts()) {
    add_slice(plan, sequences.at(expected.size()), golden_.ids("ids_" + prompt), wanted_logits());
    expected.push_back(golden_.floats("logits_" + prompt));
  }
  for (const RowResult& row : run(*decoder, plan)) got.push_back(row.logits);
  expect_golden(concatenated(got), concatenated(expected), kLogitTolerance, "all prompts");
}

// Where every product is of float32: with rounded ones a random model's close calls go either way.
class DecoderGreedyTest : public GoldenTest {};

INSTANTIATE_TEST_SUITE_P(Models, DecoderGreedyTest,
                         testing::Combine(testing::ValuesIn(exact_backends()), testing::ValuesIn(kDecoders)),
                         test_name);

TEST_P(DecoderGreedyTest, GreedyContinuation) {
  if (!golden_.has("greedy_0")) return;  // nothing was generated with the quantised ones
  const auto decoder = load_decoder();
  TestSequence sequence = sequence_on(29, 12, kBlocks, kReserved);
  const std::vector<TokenId> expected = golden_.ids("greedy_0");
  EXPECT_EQ(greedy(*decoder, sequence, golden_.ids("ids_0"), expected.size()), expected);
}

class DecoderEmbedderGoldenTest : public GoldenTest {};

INSTANTIATE_TEST_SUITE_P(Models, DecoderEmbedderGoldenTest,
                         testing::Combine(testing::ValuesIn(tested_backends()), testing::ValuesIn(kDecoderEmbedders)),
                         test_name);

TEST_P(DecoderEmbedderGoldenTest, StatesAndVectors) {
  EXPECT_EQ(model_.embedding.pooling, Pooling::last_token);
  const auto decoder = load_decoder();
  WantedRow wanted;
  wanted.hidden = true;
  for (const std::string& prompt : prompts()) {
    TestSequence sequence = sequence_on(29, 12, kBlocks, kReserved);
    StepPlan plan;
    add_slice(plan, sequence, golden_.ids("ids_" + prompt), wanted);
    std::vector<std::vector<float>> states;
    for (const RowResult& row : run(*decoder, plan)) states.push_back(row.hidden);
    expect_golden(concatenated(states), golden_.floats("hidden_" + prompt), kStateTolerance, "hidden " + prompt);
    if (model_.embedding.normalise) normalise(states.back());
    expect_golden(states.back(), golden_.floats("pooled_" + prompt), kStateTolerance, "pooled " + prompt);
  }
}

class DecoderRerankerGoldenTest : public GoldenTest {};

INSTANTIATE_TEST_SUITE_P(Models, DecoderRerankerGoldenTest,
                         testing::Combine(testing::ValuesIn(tested_backends()), testing::ValuesIn(kDecoderRerankers)),
                         test_name);

// The score is how much likelier yes is than no, in logits.
TEST_P(DecoderRerankerGoldenTest, Scores) {
  const std::vector<TokenId> yes_and_no = {484, 485};  // as reranker.json says
  const auto decoder = load_decoder();
  for (const std::string& prompt : prompts()) {
    const std::vector<TokenId> ids = golden_.ids("ids_" + prompt);
    TestSequence sequence = sequence_on(29, 12, kBlocks, kReserved);
    StepPlan plan;
    WantedRow wanted;
    wanted.scores = yes_and_no;
    add_slice(plan, sequence, ids, wanted);
    plan.wanted.erase(plan.wanted.begin(), plan.wanted.end() - 1);
    const std::vector<float> scores = run(*decoder, plan).front().scores;
    expect_scores({scores[0] - scores[1]}, golden_.floats("score_" + prompt), "pair " + prompt);
  }
}

class EncoderGoldenTest : public GoldenTest {};

INSTANTIATE_TEST_SUITE_P(Models, EncoderGoldenTest,
                         testing::Combine(testing::ValuesIn(tested_backends()), testing::ValuesIn(kEncoders)),
                         test_name);

TEST_P(EncoderGoldenTest, StatesAndVectors) {
  const auto encoder = load_encoder();
  std::vector<std::vector<TokenId>> texts;
  std::vector<std::vector<float>> hidden;
  const auto vectors_of = [&](EncodeResult result) {
    const auto width = static_cast<std::ptrdiff_t>(result.dimensions);
    std::vector<std::vector<float>> vectors;
    for (auto at = result.pooled.begin(); at != result.pooled.end(); at += width) {
      vectors.emplace_back(at, at + width);
      if (model_.embedding.normalise) normalise(vectors.back());  // the golden ones come from the whole pipeline
    }
    return vectors;
  };
  for (const std::string& prompt : prompts()) {
    texts.push_back(golden_.ids("ids_" + prompt));
    hidden.push_back(golden_.floats("hidden_" + prompt));
    const EncodeResult alone = encode(*encoder, pack({texts.back()}));
    expect_golden(alone.hidden, hidden.back(), kStateTolerance, "hidden " + prompt);
    expect_golden(vectors_of(alone).front(), golden_.floats("pooled_" + prompt), kStateTolerance, "pooled " + prompt);
  }
  const EncodeResult together = encode(*encoder, pack(texts));
  expect_golden(together.hidden, concatenated(hidden), kStateTolerance, "hidden together");
  const std::vector<std::vector<float>> vectors = vectors_of(together);
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    expect_golden(vectors[i], golden_.floats("pooled_" + std::to_string(i)), kStateTolerance,
                  "together " + std::to_string(i));
  }
}

class EncoderRerankerGoldenTest : public GoldenTest {};

INSTANTIATE_TEST_SUITE_P(Models, EncoderRerankerGoldenTest,
                         testing::Combine(testing::ValuesIn(tested_backends()), testing::ValuesIn(kEncoderRerankers)),
                         test_name);

TEST_P(EncoderRerankerGoldenTest, Scores) {
  const auto encoder = load_encoder();
  std::vector<std::vector<TokenId>> pairs;
  std::vector<std::int32_t> types;
  std::vector<std::vector<float>> scores;
  for (const std::string& prompt : prompts()) {
    pairs.push_back(golden_.ids("ids_" + prompt));
    scores.push_back(golden_.floats("score_" + prompt));
    PackedTexts alone = pack({pairs.back()});
    if (golden_.has("types_" + prompt)) alone.types = golden_.ids("types_" + prompt);
    types.insert(types.end(), alone.types.begin(), alone.types.end());
    expect_scores(encode(*encoder, alone).pooled, scores.back(), "pair " + prompt);
  }
  PackedTexts together = pack(pairs);
  together.types = types;
  expect_scores(encode(*encoder, together).pooled, concatenated(scores), "all pairs");
}

}  // namespace
}  // namespace cortex
