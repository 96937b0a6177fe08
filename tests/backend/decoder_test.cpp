// What every DecoderBackend keeps, on each backend that is built.
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/backends.h"
#include "backend/golden.h"
#include "backend/sequence_runner.h"
#include "base/error.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr double kTolerance = 5e-5;  // of logits: to the golden ones, and between shapes where a library picks kernels
constexpr int kReserved = 31;

class DecoderTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<DecoderBackend> load_golden(const std::string& name, int threads = 2) {
    const Model model = open_model(real_file_system(), golden_model(name));
    const auto& network = std::get<DecoderModel>(model.network);
    vocabulary_ = static_cast<std::size_t>(network.spec.vocabulary);
    hidden_ = static_cast<std::size_t>(network.spec.hidden);
    return load(network.spec, network.weights, threads);
  }

  std::unique_ptr<DecoderBackend> load(const DecoderSpec& spec, const DecoderWeights& weights, int threads = 2) {
    backends_.push_back(open_tested(GetParam(), threads));
    EXPECT_EQ(backends_.back()->lacks(spec), std::nullopt);
    std::unique_ptr<DecoderBackend> decoder = backends_.back()->load(spec, weights, {});
    decoder->reserve_kv(kReserved);
    return decoder;
  }

  static TestSequence contiguous() { return sequence_on(0, 1, 8, kReserved); }
  static TestSequence scrambled() { return sequence_on(29, 12, 8, kReserved); }

  std::vector<std::unique_ptr<Backend>> backends_;  // outlive what they loaded
  std::size_t vocabulary_ = 0;
  std::size_t hidden_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Backends, DecoderTest, testing::ValuesIn(tested_backends()),
                         [](const auto& info) { return info.param; });

TEST_P(DecoderTest, ChunksAndBlocksDoNotMatter) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> ids = golden.ids("ids_2");
  TestSequence whole = contiguous();
  const std::vector<float> expected = logits_of(*decoder, whole, ids);
  for (const int chunk : {0, 1, 3, 16, 17}) {
    TestSequence sequence = scrambled();
    expect_same(GetParam(), logits_of(*decoder, sequence, ids, chunk), expected, kTolerance,
                "chunks of " + std::to_string(chunk));
  }
}

TEST_P(DecoderTest, CompanyDoesNotMatter) {
  const Golden golden(golden_model("llama3-rope") / "golden.safetensors");
  const auto decoder = load_golden("llama3-rope");
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::vector<float>> alone;
  for (const std::string prompt : {"0", "1", "2", "3"}) {
    prompts.push_back(golden.ids("ids_" + prompt));
    TestSequence sequence = scrambled();
    alone.push_back(logits_of(*decoder, sequence, prompts.back()));
  }
  StepPlan plan;
  std::vector<TestSequence> sequences;
  for (int i = 0; i < 4; ++i) sequences.push_back(sequence_on(5 * i + 3, 20, 4, kReserved));
  for (std::size_t i = 0; i < 4; ++i) add_slice(plan, sequences[i], prompts[i], wanted_logits());
  const std::vector<RowResult> rows = run(*decoder, plan);
  for (std::size_t i = 0; i < 4; ++i) {
    std::vector<float> together;
    for (std::size_t row = 0; row < prompts[i].size(); ++row) {
      const std::vector<float>& logits = rows[static_cast<std::size_t>(plan.slices[i].first_row) + row].logits;
      together.insert(together.end(), logits.begin(), logits.end());
    }
    expect_same(GetParam(), together, alone[i], kTolerance, "prompt " + std::to_string(i));
  }
}

// Prompt chunks and single tokens of several sequences in one step.
TEST_P(DecoderTest, ChunksAndSingleTokensShareAStep) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> first = golden.ids("ids_2"), second = golden.ids("ids_3");
  TestSequence a = sequence_on(0, 3, 5, kReserved), b = sequence_on(1, 3, 5, kReserved);
  logits_of(*decoder, a, std::span(first).first(59));
  logits_of(*decoder, b, std::span(second).first(20));
  StepPlan plan;
  add_slice(plan, a, std::span(first).subspan(59, 1), wanted_logits());
  add_slice(plan, b, std::span(second).subspan(20, 30), wanted_logits());
  add_slice(plan, b, std::span(second).subspan(50, 6), wanted_logits());  // two slices of one sequence, in order
  const std::vector<RowResult> rows = run(*decoder, plan);
  const std::vector<float> logits_a = golden.floats("logits_2"), logits_b = golden.floats("logits_3");
  const auto row_of = [&](const std::vector<float>& logits, std::size_t row) {
    return std::vector<float>(logits.begin() + static_cast<std::ptrdiff_t>(row * vocabulary_),
                              logits.begin() + static_cast<std::ptrdiff_t>((row + 1) * vocabulary_));
  };
  expect_near_on(GetParam(), rows[0].logits, row_of(logits_a, 59), kTolerance, "single token");
  for (std::size_t i = 1; i < rows.size(); ++i) {
    expect_near_on(GetParam(), rows[i].logits, row_of(logits_b, 19 + i), kTolerance, "chunk row " + std::to_string(i));
  }
}

TEST_P(DecoderTest, ThreadsDoNotMatter) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const std::vector<TokenId> ids = golden.ids("ids_3");
  TestSequence sequence = contiguous();
  const std::vector<float> expected = logits_of(*load_golden("llama", 1), sequence, ids);
  for (const int threads : {2, 3}) {
    TestSequence again = contiguous();
    expect_same(GetParam(), logits_of(*load_golden("llama", threads), again, ids), expected, kTolerance,
                std::to_string(threads) + " threads");
  }
}

TEST_P(DecoderTest, NumericClassIsThatOfTheArithmetic) {
  const std::string name = load_golden("llama", 1)->kv_geometry().numeric_class;
  EXPECT_EQ(load_golden("qwen2", 2)->kv_geometry().numeric_class, name);
  const Model model = open_model(real_file_system(), golden_model("llama"));
  const auto& [spec, weights] = std::get<DecoderModel>(model.network);
  for (const std::string& other : tested_backends()) {
    const auto decoder = open_tested(other)->load(spec, weights, {});
    EXPECT_EQ(decoder->kv_geometry().numeric_class == name, other == GetParam()) << other << " and " << name;
  }
}

TEST_P(DecoderTest, BlocksThatWereReadRestoreASequence) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> ids = golden.ids("ids_2");
  TestSequence sequence = scrambled();
  logits_of(*decoder, sequence, std::span(ids).first(48));
  const std::vector<BlockId> full(sequence.blocks.begin(), sequence.blocks.begin() + 3);
  const std::size_t block_bytes = decoder->kv_geometry().block_bytes;
  std::vector<std::byte> bytes(3 * block_bytes), again(3 * block_bytes);
  decoder->read_blocks(full, bytes);
  const std::vector<float> expected = logits_of(*decoder, sequence, std::span(ids).subspan(48));

  decoder->reserve_kv(kReserved);  // forgets everything
  TestSequence restored = sequence_on(7, 5, 8, kReserved);
  restored.length = 48;
  const std::vector<BlockId> elsewhere(restored.blocks.begin(), restored.blocks.begin() + 3);
  decoder->write_blocks(elsewhere, bytes);
  decoder->read_blocks(elsewhere, again);
  EXPECT_EQ(again, bytes);
  const std::vector<float> got = logits_of(*decoder, restored, std::span(ids).subspan(48));
  expect_same(GetParam(), got, expected, kTolerance, "restored");
}

TEST_P(DecoderTest, DiscardedBlocksCanBeUsedAgain) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> ids = golden.ids("ids_3");
  TestSequence sequence = scrambled();
  const std::vector<float> expected = logits_of(*decoder, sequence, ids);
  decoder->discard(sequence.blocks);
  TestSequence again = scrambled();
  expect_same(GetParam(), logits_of(*decoder, again, ids), expected, 0.0, "after discard");
}

TEST_P(DecoderTest, InvalidPlansAreRefusedBeforeAnythingIsComputed) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> ids = golden.ids("ids_0");
  for (const TokenId bad : {static_cast<TokenId>(vocabulary_), 1 << 30}) {
    std::vector<TokenId> tokens = ids;
    tokens.back() = bad;
    TestSequence sequence = contiguous();
    try {
      logits_of(*decoder, sequence, tokens);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_token_id) << error.message();
    }
  }
  TestSequence short_table = sequence_on(0, 1, 0, kReserved), beyond = sequence_on(0, 1, 8, kReserved);
  beyond.blocks[0] = kReserved;
  EXPECT_THROW(logits_of(*decoder, short_table, ids), CheckFailure);
  EXPECT_THROW(logits_of(*decoder, beyond, ids), CheckFailure);
  EXPECT_THROW(decoder->discard(std::vector<BlockId>{kReserved}), CheckFailure);

  TestSequence sequence = contiguous();
  expect_near_on(GetParam(), logits_of(*decoder, sequence, ids), golden.floats("logits_0"), kTolerance, "afterwards");
}

TEST_P(DecoderTest, AStepIsCollectedOnce) {
  const auto decoder = load_golden("llama");
  StepResult result;
  EXPECT_THROW(decoder->collect(&result), CheckFailure);
  TestSequence sequence = contiguous();
  StepPlan plan;
  add_slice(plan, sequence, std::vector<TokenId>{5, 9}, wanted_logits());
  decoder->submit(plan);
  decoder->collect(&result);
  EXPECT_EQ(result.rows.size(), 2u);
  EXPECT_THROW(decoder->collect(&result), CheckFailure);
}

TEST_P(DecoderTest, RowsGiveWhatIsWantedOfThem) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> ids = golden.ids("ids_0");
  const std::vector<float> logits = golden.floats("logits_0");
  const std::vector<TokenId> asked = {0, 1, 77};
  TestSequence sequence = contiguous();
  StepPlan plan;
  add_slice(plan, sequence, ids, WantedRow{});
  plan.wanted.resize(4);
  plan.wanted[0].hidden = true;
  plan.wanted[1].scores = asked;
  plan.wanted[2].top_logprobs = 5;
  plan.wanted[3].row = 4;
  plan.wanted[3].token = true;
  plan.wanted[3].hidden = true;
  plan.wanted[3].sampling.params.temperature = 0.0f;
  const std::vector<RowResult> rows = run(*decoder, plan);
  ASSERT_EQ(rows.size(), 4u);

  const auto logprob = [&](std::size_t row, TokenId token) {
    double sum = 0.0;
    for (std::size_t i = 0; i < vocabulary_; ++i) sum += std::exp(static_cast<double>(logits[row * vocabulary_ + i]));
    return logits[row * vocabulary_ + static_cast<std::size_t>(token)] - std::log(sum);
  };
  EXPECT_EQ(rows[0].hidden.size(), hidden_);
  EXPECT_TRUE(rows[0].logits.empty());
  ASSERT_EQ(rows[1].scores.size(), 3u);
  const double near = GetParam() == "cpu" ? 0.02 : 1e-4;
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(rows[1].scores[i], logprob(1, asked[i]), near);
  ASSERT_EQ(rows[2].top_logprobs.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(rows[2].top_logprobs[i].logprob, logprob(2, rows[2].top_logprobs[i].token), near);
    if (i > 0) {
      EXPECT_GE(rows[2].top_logprobs[i - 1].logprob, rows[2].top_logprobs[i].logprob);
    }
  }
  EXPECT_EQ(rows[3].token, golden.ids("greedy_0").front());
  EXPECT_NEAR(rows[3].logprob, logprob(4, rows[3].token), near);
  EXPECT_EQ(rows[3].hidden.size(), hidden_);
}

// The hidden state is what the head reads: hidden . head = logits.
TEST_P(DecoderTest, HiddenIsAfterTheFinalNorm) {
  const Model model = open_model(real_file_system(), golden_model("llama"));
  const auto& weights = std::get<DecoderModel>(model.network).weights;
  const std::vector<float> head = read_weight(weights.head ? *weights.head : weights.embedding);
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> ids = {5, 9, 200};
  TestSequence sequence = contiguous();
  StepPlan plan;
  WantedRow wanted = wanted_logits();
  wanted.hidden = true;
  add_slice(plan, sequence, ids, wanted);
  for (const RowResult& row : run(*decoder, plan)) {
    std::vector<float> expected(vocabulary_);
    for (std::size_t n = 0; n < vocabulary_; ++n) {
      double sum = 0.0;
      for (std::size_t k = 0; k < hidden_; ++k) sum += static_cast<double>(row.hidden[k]) * head[n * hidden_ + k];
      expected[n] = static_cast<float>(sum);
    }
    expect_near_on(GetParam(), row.logits, expected, 1e-5, "hidden . head");
  }
}

TEST_P(DecoderTest, TokensOfTheLastStepCanBeNamedByTheirRow) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> prompt = golden.ids("ids_0"), expected = golden.ids("greedy_0");
  TestSequence sequence = contiguous();
  WantedRow wanted;
  wanted.token = true;
  wanted.sampling.params.temperature = 0.0f;
  std::vector<TokenId> next = prompt, got;
  int last_row = 0;
  for (int i = 0; i < 6; ++i) {
    StepPlan plan;
    add_slice(plan, sequence, next, wanted);
    last_row = static_cast<int>(plan.wanted.size()) - 1;
    got.push_back(run(*decoder, plan).back().token);
    next = {sampled_by_last_step(last_row)};
  }
  EXPECT_EQ(got, std::vector<TokenId>(expected.begin(), expected.begin() + 6));
}

// Sampled tokens do not depend on how the prompt was cut, nor on company: the noise belongs to seed and position.
TEST_P(DecoderTest, SamplingDependsOnSeedAndPosition) {
  const Golden golden(golden_model("llama") / "golden.safetensors");
  const auto decoder = load_golden("llama");
  const std::vector<TokenId> ids = golden.ids("ids_3");
  std::vector<std::vector<TokenId>> sampled;
  for (const int chunk : {56, 1, 9}) {
    TestSequence sequence = scrambled();
    std::vector<TokenId> tokens;
    for (std::size_t at = 0; at < ids.size(); at += static_cast<std::size_t>(chunk)) {
      StepPlan plan;
      WantedRow wanted;
      wanted.token = true;
      wanted.sampling.params.seed = 4;
      const std::size_t count = std::min(ids.size() - at, static_cast<std::size_t>(chunk));
      add_slice(plan, sequence, std::span(ids).subspan(at, count), wanted);
      for (WantedRow& row : plan.wanted) row.sampling.position = static_cast<std::int64_t>(at) + row.row + 1;
      for (const RowResult& row : run(*decoder, plan)) tokens.push_back(row.token);
    }
    sampled.push_back(tokens);
  }
  EXPECT_EQ(sampled[1], sampled[0]);
  EXPECT_EQ(sampled[2], sampled[0]);
}

TEST_P(DecoderTest, LoadingTellsHowFarItIs) {
  const Model model = open_model(real_file_system(), golden_model("llama"));
  const auto& [spec, weights] = std::get<DecoderModel>(model.network);
  std::vector<double> fractions;
  const auto backend = open_tested(GetParam());
  const auto decoder = backend->load(spec, weights, [&](double fraction) { fractions.push_back(fraction); });
  ASSERT_GE(fractions.size(), spec.layers.size());
  for (std::size_t i = 1; i < fractions.size(); ++i) EXPECT_GE(fractions[i], fractions[i - 1]);
  EXPECT_NEAR(fractions.back(), 1.0, 0.02);
  EXPECT_LE(fractions.back(), 1.0);
  EXPECT_GT(decoder->memory_bytes(), model.weight_bytes / 2);
}

}  // namespace
}  // namespace cortex
