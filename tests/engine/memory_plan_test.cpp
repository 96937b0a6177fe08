#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "fakes/test_paths.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;

KvGeometry geometry(std::size_t block_bytes) { return {block_bytes, "test", "test"}; }

TEST(MemoryPlan, ByDefaultHoldsEightContextsOfASmallModel) {
  EXPECT_EQ(kv_block_count(geometry(1024), 2048, std::nullopt), 8 * 128);
  EXPECT_EQ(kv_block_count(geometry(1024), 2049, std::nullopt), 8 * 129);
}

TEST(MemoryPlan, ByDefaultTakesNoMoreThanOneGibibyte) {
  EXPECT_EQ(kv_block_count(geometry(std::size_t{2} << 20), 131072, std::nullopt), 512);
}

TEST(MemoryPlan, ABudgetIsTakenWhole) {
  EXPECT_EQ(kv_block_count(geometry(1000), 16, 10999), 10);
  EXPECT_EQ(kv_block_count(geometry(1), 16, std::numeric_limits<std::uint64_t>::max()), 134217727);
}

TEST(MemoryPlan, RefusesABudgetBelowOneBlock) {
  try {
    kv_block_count(geometry(1000), 16, 999);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_option);
    EXPECT_THAT(error.message(), testing::HasSubstr("999"));
    EXPECT_THAT(error.message(), testing::HasSubstr("1000"));
  }
}

// A decoder of round numbers: 1000 bytes of what stays, ten layers of 100, blocks of 50, 2 a row. Fewer bits halve
// weights, or blocks.
DecoderNeeds round_needs(const DecoderHolding& holding) {
  const std::uint64_t divisor = std::uint64_t{1} << static_cast<int>(holding.weights);
  return {.fixed_bytes = 1000 / divisor,
          .layer_bytes = std::vector<std::uint64_t>(10, 100 / divisor),
          .kv_kept_bytes = holding.kv_8_bits ? 25u : 50u,
          .kv_block_bytes = holding.kv_8_bits ? 25u : 50u,
          .step_bytes = 2 * static_cast<std::uint64_t>(holding.rows_per_step)};
}

constexpr DecoderWants kWants{.kv_blocks = 1000, .rows_per_step = 512, .context_tokens = 4096, .may_stream = true};

MemoryPlan plan_of(std::uint64_t budget, const DecoderWants& wants = kWants) {
  return plan_decoder(round_needs, wants, budget).plan.value();
}

TEST(DecoderPlan, WithoutABudgetIsAsWanted) {
  const PlanOutcome outcome = plan_decoder(round_needs, kWants, std::nullopt);
  EXPECT_EQ(outcome.plan, (MemoryPlan{.kv_blocks = 1000,
                                      .rows_per_step = 512,
                                      .layers = 10,
                                      .resident_layers = 10,
                                      .weight_bytes = 2000,
                                      .kv_bytes = 50'000,
                                      .step_bytes = 1024}));
  EXPECT_EQ(outcome.plan, plan_of(outcome.plan->total_bytes()));
}

// What is given up, in its order. 128 blocks are 2048 tokens.
TEST(DecoderPlan, GivesUpStepByStep) {
  EXPECT_EQ(to_text(plan_of(53'024)), "weights as given, KV of 1000 blocks, 512 rows a step");
  EXPECT_EQ(to_text(plan_of(53'023)), "weights as given, KV of 999 blocks, 512 rows a step");
  EXPECT_EQ(to_text(plan_of(2000 + 1024 + 128 * 50)), "weights as given, KV of 128 blocks, 512 rows a step");
  EXPECT_EQ(to_text(plan_of(2000 + 1023 + 128 * 50)), "weights as given, KV of 138 blocks, 256 rows a step");
  EXPECT_EQ(to_text(plan_of(2000 + 128 + 128 * 50)), "weights as given, KV of 128 blocks, 64 rows a step");
  EXPECT_EQ(to_text(plan_of(2000 + 127 + 128 * 50)), "weights as given, 8-bit KV of 220 blocks, 512 rows a step");
  EXPECT_EQ(to_text(plan_of(2000 + 128 + 128 * 25)), "weights as given, 8-bit KV of 128 blocks, 64 rows a step");
  EXPECT_EQ(to_text(plan_of(2000 + 127 + 128 * 25)), "8-bit weights, 8-bit KV of 132 blocks, 512 rows a step");
  EXPECT_EQ(to_text(plan_of(500 + 128 + 128 * 25)), "4-bit weights, 8-bit KV of 128 blocks, 64 rows a step");
  EXPECT_EQ(to_text(plan_of(500 + 127 + 128 * 25)),
            "4-bit weights with 7 of 10 layers in memory, 8-bit KV of 128 blocks, 64 rows a step");
  EXPECT_EQ(to_text(plan_of(300 + 128 + 128 * 25)),
            "4-bit weights with 0 of 10 layers in memory, 8-bit KV of 128 blocks, 64 rows a step");
  EXPECT_EQ(to_text(plan_of(300 + 128 + 16 * 25)),
            "4-bit weights with 0 of 10 layers in memory, 8-bit KV of 16 blocks, 64 rows a step");
  EXPECT_EQ(plan_decoder(round_needs, kWants, 300 + 127 + 16 * 25).plan, std::nullopt);
}

// Compiled grammars go first; the vocabulary's trie and some of them stay to the last.
TEST(DecoderPlan, GrammarsHaveWhatTheRestLeaves) {
  DecoderWants wants = kWants;
  wants.grammar_vocabulary = 1000;
  constexpr std::uint64_t kTrie = 64'000, kLeast = std::uint64_t{2} << 20, kMost = std::uint64_t{64} << 20;
  const MemoryPlan whole = plan_decoder(round_needs, wants, std::nullopt).plan.value();
  EXPECT_EQ(whole.trie_bytes, kTrie);
  EXPECT_EQ(whole.grammar_cache_bytes, kMost);
  EXPECT_EQ(whole.total_bytes(), 53'024 + kTrie + kMost);
  EXPECT_EQ(plan_of(whole.total_bytes(), wants), whole);
  EXPECT_EQ(plan_of(whole.total_bytes() + 1, wants), whole);

  const MemoryPlan fewer = plan_of(53'024 + kTrie + kLeast + 17, wants);
  EXPECT_EQ(to_text(fewer), to_text(whole));
  EXPECT_EQ(fewer.grammar_cache_bytes, kLeast + 17);
  EXPECT_EQ(fewer.least_bytes(), 53'024 + kTrie + kLeast);
  EXPECT_EQ(whole.least_bytes(), fewer.least_bytes());
  EXPECT_EQ(plan_of(60'000).least_bytes(), plan_of(60'000).total_bytes()) << "of one that takes none";
  const MemoryPlan fewest = plan_of(53'023 + kTrie + kLeast, wants);
  EXPECT_EQ(to_text(fewest), "weights as given, KV of 999 blocks, 512 rows a step");
  EXPECT_EQ(fewest.grammar_bytes(), kTrie + kLeast + 49) << "what makes no block";

  const std::uint64_t least = 300 + 128 + 128 * 25 + kTrie + kLeast;
  EXPECT_EQ(plan_of(least, wants).grammar_bytes(), kTrie + kLeast);
  EXPECT_FALSE(plan_of(least, wants).no_grammars);
  EXPECT_FALSE(plan_of(least, kWants).no_grammars) << "of one that takes none";
}

TEST(DecoderPlan, AChatOfUsualLengthComesBeforeGrammars) {
  DecoderWants wants = kWants;
  wants.grammar_vocabulary = 100'000;
  const std::uint64_t grammars = 100'000 * kTrieBytesPerToken + kLeastGrammarCacheBytes;
  const MemoryPlan without = plan_of(300 + 127 + 128 * 25 + grammars, wants);
  EXPECT_EQ(to_text(without), "weights as given, KV of 1000 blocks, 512 rows a step, no grammars");
  EXPECT_EQ(without.grammar_bytes(), 0u);
  EXPECT_EQ(to_text(plan_of(2000 + 128 + 128 * 50, wants)),
            "weights as given, KV of 128 blocks, 64 rows a step, no grammars");
  const PlanOutcome least = plan_decoder(round_needs, wants, 300 + 128 + 16 * 25);
  EXPECT_EQ(to_text(least.plan.value()),
            "4-bit weights with 0 of 10 layers in memory, 8-bit KV of 16 blocks, 64 rows a step, no grammars");
  EXPECT_EQ(least.plan, least.least);
  EXPECT_EQ(plan_decoder(round_needs, wants, 300 + 127 + 16 * 25).plan, std::nullopt);
}

// The order of what is given up, most of all first.
auto standing(const MemoryPlan& plan) {
  return std::tuple(!plan.no_grammars, plan.resident_layers, -static_cast<int>(plan.weights), !plan.kv_8_bits,
                    plan.rows_per_step, plan.kv_blocks, plan.grammar_cache_bytes);
}

TEST(DecoderPlan, MoreBudgetNeverGivesLessAndNoneIsOverdrawn) {
  for (const DecoderWants& wants :
       {kWants, DecoderWants{.kv_blocks = 20, .rows_per_step = 512, .context_tokens = 64, .may_stream = true},
        DecoderWants{.kv_blocks = 300, .rows_per_step = 1, .context_tokens = 4096, .may_stream = false},
        DecoderWants{.kv_blocks = 3, .rows_per_step = 100, .context_tokens = 4096, .may_stream = true},
        DecoderWants{.kv_blocks = 9, .rows_per_step = 512, .context_tokens = 4096, .grammar_vocabulary = 10},
        DecoderWants{.kv_blocks = 300,
                     .rows_per_step = 512,
                     .context_tokens = 4096,
                     .may_stream = true,
                     .grammar_vocabulary = 10}}) {
    std::optional<MemoryPlan> before;
    const std::uint64_t grammars = grammar_needs(wants.grammar_vocabulary).total_bytes();
    // Without room for grammars, if it takes some, and with.
    for (std::uint64_t step = grammars > 0 ? 0 : 60'000; step < 120'000; step += 7) {
      const std::uint64_t budget = step < 60'000 ? step : grammars + step - 60'000;
      const PlanOutcome outcome = plan_decoder(round_needs, wants, budget);
      EXPECT_EQ(outcome.plan.has_value(), budget >= outcome.least.total_bytes()) << budget;
      if (!outcome.plan) {
        EXPECT_FALSE(before);
        continue;
      }
      EXPECT_LE(outcome.plan->total_bytes(), budget);
      EXPECT_TRUE(!before || standing(*outcome.plan) >= standing(*before)) << budget;
      before = outcome.plan;
    }
    const MemoryPlan whole = plan_decoder(round_needs, wants, std::nullopt).plan.value();
    EXPECT_EQ(to_text(before.value()), to_text(whole));
    EXPECT_EQ(plan_of(whole.total_bytes(), wants), whole);
  }
}

TEST(DecoderPlan, TakesNothingThatTheBackendLacks) {
  const auto needs_of = [](const DecoderHolding& holding) -> std::optional<DecoderNeeds> {
    const bool given = holding.weights == WeightPrecision::as_given && !holding.kv_8_bits;
    return given && holding.resident_layers == kAllLayers ? std::optional(round_needs(holding)) : std::nullopt;
  };
  for (std::uint64_t budget = 0; budget < 60'000; budget += 101) {
    const PlanOutcome outcome = plan_decoder(needs_of, kWants, budget);
    EXPECT_EQ(outcome.plan.has_value(), budget >= 2000 + 128 + 16 * 50);
    EXPECT_EQ(to_text(outcome.least), "weights as given, KV of 16 blocks, 64 rows a step");
  }
}

TEST(DecoderPlan, FewerBitsThatSaveNothingAreNotTaken) {
  const auto needs_of = [](DecoderHolding holding) -> std::optional<DecoderNeeds> {
    holding.weights = WeightPrecision::as_given;
    holding.kv_8_bits = false;
    return round_needs(holding);
  };
  const MemoryPlan plan = plan_decoder(needs_of, kWants, 2000 + 100 + 128 * 50).plan.value();
  EXPECT_EQ(to_text(plan), "weights as given with 7 of 10 layers in memory, KV of 128 blocks, 64 rows a step");
}

TEST(EncoderPlan, TakesAsFewBitsAsItMust) {
  const auto needs_of = [](WeightPrecision weights) -> std::optional<EncoderNeeds> {
    return EncoderNeeds{.weight_bytes = 1000u >> static_cast<int>(weights), .step_bytes = 100};
  };
  EXPECT_EQ(to_text(plan_encoder(needs_of, std::nullopt).plan.value()), "weights as given");
  EXPECT_EQ(to_text(plan_encoder(needs_of, 1100).plan.value()), "weights as given");
  EXPECT_EQ(to_text(plan_encoder(needs_of, 1099).plan.value()), "8-bit weights");
  EXPECT_EQ(to_text(plan_encoder(needs_of, 350).plan.value()), "4-bit weights");
  EXPECT_EQ(plan_encoder(needs_of, 349).plan, std::nullopt);
}

TEST(MemoryPlan, ARefusalSaysWhatIsNeededAndWhatWouldDo) {
  const PlanOutcome outcome = plan_decoder(round_needs, kWants, 100);
  try {
    planned(outcome, 100, ErrorCode::request_cannot_fit);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::request_cannot_fit);
    EXPECT_THAT(error.message(), testing::HasSubstr("--memory-budget 1MiB"));
    EXPECT_THAT(error.message(), testing::HasSubstr("0 of 10 layers"));
  }
}

TEST(MemoryPlan, TheNumbersOfARefusalAddUp) {
  const auto needs_of = [](const DecoderHolding&) -> std::optional<DecoderNeeds> {
    return DecoderNeeds{.fixed_bytes = 20 * kMebibyte,
                        .layer_bytes = std::vector<std::uint64_t>(4, kMebibyte),
                        .kv_kept_bytes = kMebibyte,
                        .kv_block_bytes = kMebibyte,
                        .step_bytes = kMebibyte};
  };
  const auto refusal = [](const MemoryPlan& least) -> std::string {
    try {
      planned({.plan = {}, .least = least, .modest = {}}, 30 * kMebibyte, ErrorCode::request_cannot_fit);
    } catch (const Error& error) {
      return error.message();
    }
    return "none";
  };
  const PlanOutcome outcome =
      plan_decoder(needs_of, {.kv_blocks = 8, .rows_per_step = 64, .context_tokens = 128, .grammar_vocabulary = 16'384},
                   30 * kMebibyte);
  EXPECT_EQ(refusal(outcome.modest),
            "--memory-budget: 30.0 MiB can't hold the model, which needs at least 36.0 MiB (weights as given, KV of 8 "
            "blocks, 64 rows a step: weights 24.0 MiB, KV 8.0 MiB, scratch 1.0 MiB, grammars 3.0 MiB); --memory-budget "
            "36MiB would hold it alone");
  EXPECT_EQ(refusal(outcome.least),
            "--memory-budget: 30.0 MiB can't hold the model, which needs at least 33.0 MiB (weights as given, KV of 8 "
            "blocks, 64 rows a step, no grammars: weights 24.0 MiB, KV 8.0 MiB, scratch 1.0 MiB, grammars 0.0 MiB); "
            "--memory-budget 33MiB would hold it alone");
}

// Every kind of model, over budgets.
TEST(EstimateMemory, EveryKindOfModelFitsIntoWhatIsSaid) {
  for (const char* name : {"llama", "gemma3", "qwen3", "qwen3-moe", "gguf-llama-q4_k/model.gguf", "bert-mean",
                           "modernbert-mean", "qwen3-embedding"}) {
    const Model model = open_model(real_file_system(), test_data(std::string("models/") + name));
    for (const std::string backend : {"cpu", "mlx"}) {
      const auto estimate = [&](std::optional<std::uint64_t> budget) {
        return estimate_memory(model, {.backend = backend, .threads = 2, .sequences = 2, .budget_bytes = budget});
      };
      const PlanOutcome whole = estimate(std::nullopt);
      const std::uint64_t most = whole.plan.value().total_bytes();
      EXPECT_EQ(estimate(most).plan, whole.plan) << name;
      for (int part = 0; part <= 40; ++part) {
        const std::uint64_t budget = most * static_cast<std::uint64_t>(part) / 40;
        const PlanOutcome outcome = estimate(budget);
        EXPECT_EQ(outcome.plan.has_value(), budget >= outcome.least.total_bytes()) << name << part;
        EXPECT_LE(outcome.plan.value_or(MemoryPlan{}).total_bytes(), budget) << name << part;
      }
    }
  }
}

TEST(EstimateMemory, RefusesAContextThatTheModelHasNot) {
  EXPECT_THROW(estimate_memory(test_data("models/llama"), {.context_tokens = 1 << 30}), Error);
  EXPECT_THROW(estimate_memory(test_data("models/llama"), {.context_tokens = 0}), Error);
  EXPECT_THROW(estimate_memory(test_data("models/llama"), {.sequences = 0}), Error);
}

TEST(EstimateMemory, OnlyWhatChatsHasRoomForGrammars) {
  Model model = open_model(real_file_system(), test_data("models/llama"));
  const auto grammar_bytes = [&](std::optional<ModelKind> kind) {
    return estimate_memory(model, {.threads = 2, .kind = kind}).plan.value().grammar_bytes();
  };
  EXPECT_EQ(grammar_vocabulary_of(model, ModelKind::chat), model.vocabulary());
  EXPECT_GT(grammar_bytes(std::nullopt), kMostGrammarCacheBytes);
  EXPECT_EQ(grammar_bytes(ModelKind::embed), 0u);
  model.chat_template.reset();
  EXPECT_EQ(grammar_vocabulary_of(model, ModelKind::chat), 0);
  EXPECT_EQ(grammar_bytes(std::nullopt), 0u);
}

TEST(EstimateMemory, AKvPoolOfSoManyBytes) {
  const Model model = open_model(real_file_system(), test_data("models/llama"));
  const auto blocks = [&](EstimateOptions options) {
    options.threads = 2;
    return estimate_memory(model, options).plan.value().kv_blocks;
  };
  const auto cpu = open_backend("cpu", {.threads = 2});
  const auto& decoder = std::get<DecoderModel>(model.network);
  const std::uint64_t block_bytes = needs_on(*cpu, decoder, {}).value().kv_kept_bytes;
  EXPECT_EQ(blocks({.kv_bytes = 3 * block_bytes}), 3);
  EXPECT_EQ(blocks({.kv_bytes = 1000 * block_bytes}), 1000);
  // What fits with a small pool is not refused for want of a larger one.
  const MemoryPlan small = estimate_memory(model, {.threads = 2, .kv_bytes = block_bytes}).plan.value();
  EXPECT_EQ(blocks({.kv_bytes = block_bytes, .may_stream = false, .budget_bytes = small.total_bytes()}), 1);
  EXPECT_THROW(estimate_memory(model, {.kv_bytes = 1}), Error);
}

// What is promised of the smallest default model.
TEST(EstimateMemory, SmolLm2ChatsIn64MebibytesAndInSixTenthsOfItsWeights) {
  const auto path = default_model("SmolLM2-135M-Instruct.Q4_1.gguf");
  const PlanOutcome small = estimate_memory(path, {.threads = 2, .budget_bytes = 64 * kMebibyte});
  EXPECT_GE(small.plan.value().kv_blocks, 2048 / kBlockTokens);
  const std::uint64_t weights = estimate_memory(path, {.threads = 2}).plan.value().weight_bytes;
  const PlanOutcome smaller = estimate_memory(path, {.threads = 2, .budget_bytes = weights * 6 / 10});
  EXPECT_GE(smaller.plan.value().kv_blocks, kFewestTokens / kBlockTokens);
  EXPECT_FALSE(estimate_memory(path, {.threads = 2, .budget_bytes = 96 * kMebibyte}).plan.value().no_grammars);
  RecordProperty("64MiB", to_text(small.plan.value()));
  RecordProperty("sixtenths", to_text(smaller.plan.value()));
}

}  // namespace
}  // namespace cortex
