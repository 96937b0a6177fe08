#include "backend/plan_check.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

const std::vector<BlockId> kBlocks = {3, 0};

StepPlan good_plan() {
  StepPlan plan;
  plan.tokens = {1, 2, 3, 4, 5};
  plan.slices = {{.first_row = 0, .rows = 3, .start = 15, .blocks = kBlocks},
                 {.first_row = 3, .rows = 2, .start = 0, .blocks = kBlocks}};
  WantedRow wanted;
  wanted.row = 2;
  wanted.token = true;
  plan.wanted = {wanted};
  return plan;
}

const PlanLimits kLimits = {.vocabulary = 40, .context_tokens = 32, .kv_blocks = 4};

void expect_breach(const std::function<void(StepPlan&)>& change) {
  StepPlan plan = good_plan();
  change(plan);
  EXPECT_THROW(check_plan(plan, kLimits), CheckFailure);
}

void expect_invalid_token(const std::function<void(StepPlan&)>& change, const PlanLimits& limits = kLimits) {
  StepPlan plan = good_plan();
  change(plan);
  try {
    check_plan(plan, limits);
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_token_id) << error.message();
  }
}

TEST(PlanCheck, GoodPlanPasses) {
  EXPECT_NO_THROW(check_plan(good_plan(), kLimits));
  EXPECT_NO_THROW(check_plan(StepPlan{}, kLimits));
}

TEST(PlanCheck, TokensBelowTheVocabulary) {
  static const std::vector<TokenId> kScores = {40};
  static const std::vector<std::pair<TokenId, float>> kBias = {{-1, 1.0f}};
  static const std::vector<TokenCount> kCounts = {{41, 1, 1}};
  expect_invalid_token([](StepPlan& plan) { plan.tokens[4] = 40; });
  expect_invalid_token([](StepPlan& plan) { plan.wanted[0].scores = kScores; });
  expect_invalid_token([](StepPlan& plan) { plan.wanted[0].sampling.logit_bias = kBias; });
  expect_invalid_token([](StepPlan& plan) { plan.wanted[0].sampling.counts = kCounts; });
}

TEST(PlanCheck, SampledTokensMustHaveBeenSampled) {
  std::vector<RowResult> last(2);
  last[0].token = 7;
  PlanLimits limits = kLimits;
  limits.last_step = last;
  StepPlan plan = good_plan();
  plan.tokens[1] = sampled_by_last_step(0);
  EXPECT_NO_THROW(check_plan(plan, limits));
  EXPECT_EQ(resolved_tokens(plan, last), (std::vector<TokenId>{1, 7, 3, 4, 5}));
  expect_invalid_token([](StepPlan& p) { p.tokens[1] = sampled_by_last_step(1); }, limits);
  expect_breach([](StepPlan& p) { p.tokens[1] = sampled_by_last_step(0); });
  expect_breach([](StepPlan& p) { p.tokens[1] = std::numeric_limits<TokenId>::min(); });
}

TEST(PlanCheck, SlicesCoverTheRowsInOrder) {
  expect_breach([](StepPlan& plan) { plan.slices[1].first_row = 2; });
  expect_breach([](StepPlan& plan) { plan.slices[1].rows = 0; });
  expect_breach([](StepPlan& plan) { plan.slices[1].rows = 3; });
  expect_breach([](StepPlan& plan) { plan.tokens.push_back(1); });
  expect_breach([](StepPlan& plan) { plan.slices[0].start = -1; });
  expect_breach([](StepPlan& plan) { plan.slices[0].start = 30; });
  expect_breach([](StepPlan& plan) { plan.slices[0].start = std::numeric_limits<int>::max(); });
}

TEST(PlanCheck, BlocksAreReservedAndEnough) {
  static const std::vector<BlockId> kOne = {0}, kBeyond = {0, 4}, kNegative = {-1};
  expect_breach([](StepPlan& plan) { plan.slices[0].blocks = kOne; });
  expect_breach([](StepPlan& plan) { plan.slices[0].blocks = kBeyond; });
  expect_breach([](StepPlan& plan) { plan.slices[1].blocks = kNegative; });
  EXPECT_NO_THROW(check_blocks(kOne, 1));
  EXPECT_THROW(check_blocks(kBeyond, 4), CheckFailure);
  EXPECT_THROW(check_blocks(kNegative, 4), CheckFailure);
  EXPECT_NO_THROW(check_block_bytes(kBeyond, 10, 20));
  EXPECT_THROW(check_block_bytes(kBeyond, 10, 19), CheckFailure);
}

TEST(PlanCheck, WantedRowsAscendWithinTheStep) {
  expect_breach([](StepPlan& plan) { plan.wanted[0].row = 5; });
  expect_breach([](StepPlan& plan) { plan.wanted[0].row = -1; });
  expect_breach([](StepPlan& plan) { plan.wanted.push_back(plan.wanted[0]); });
  expect_breach([](StepPlan& plan) { plan.wanted[0].top_logprobs = -1; });
}

TEST(PlanCheck, SamplingStaysInItsRange) {
  const auto params = [](auto change) {
    expect_breach([&](StepPlan& plan) { change(plan.wanted[0].sampling.params); });
  };
  params([](SamplingParams& p) { p.temperature = -0.1f; });
  params([](SamplingParams& p) { p.temperature = std::numeric_limits<float>::infinity(); });
  params([](SamplingParams& p) { p.top_p = 0.0f; });
  params([](SamplingParams& p) { p.top_p = 1.1f; });
  params([](SamplingParams& p) { p.min_p = std::numeric_limits<float>::quiet_NaN(); });
  params([](SamplingParams& p) { p.top_k = -1; });
  params([](SamplingParams& p) { p.repetition_penalty = 0.0f; });
  params([](SamplingParams& p) { p.presence_penalty = std::numeric_limits<float>::quiet_NaN(); });
}

TEST(PlanCheck, MaskFitsAndAllowsSomething) {
  static const std::vector<std::uint32_t> kShort = {1}, kNothing = {0, 0}, kBeyond = {0, 1u << 8}, kLast = {0, 1u << 7};
  expect_breach([](StepPlan& plan) { plan.wanted[0].sampling.allowed = kShort; });
  expect_breach([](StepPlan& plan) { plan.wanted[0].sampling.allowed = kNothing; });
  expect_breach([](StepPlan& plan) { plan.wanted[0].sampling.allowed = kBeyond; });
  StepPlan plan = good_plan();
  plan.wanted[0].sampling.allowed = kLast;
  EXPECT_NO_THROW(check_plan(plan, kLimits));
}

TEST(PlanCheck, TextsFitTheEncoder) {
  EncoderSpec spec;
  spec.vocabulary = 10;
  spec.token_types = 2;
  spec.positions = 8;
  spec.context_tokens = 4;
  const PackedTexts good = {.tokens = {1, 2, 3, 4, 5}, .types = {0, 0, 0, 1, 1}, .starts = {0, 4, 5}};
  EXPECT_NO_THROW(check_texts(good, spec));
  const auto breach = [&](const std::function<void(PackedTexts&)>& change) {
    PackedTexts texts = good;
    change(texts);
    EXPECT_THROW(check_texts(texts, spec), CheckFailure);
  };
  breach([](PackedTexts& texts) { texts.starts = {}; });
  breach([](PackedTexts& texts) { texts.starts = {1, 5}; });
  breach([](PackedTexts& texts) { texts.starts = {0, 4}; });
  breach([](PackedTexts& texts) { texts.starts = {0, 5}; });        // longer than the context
  breach([](PackedTexts& texts) { texts.starts = {0, 2, 2, 5}; });  // an empty text
  breach([](PackedTexts& texts) { texts.starts = {0, 4, 3, 5}; });
  breach([](PackedTexts& texts) { texts.types.pop_back(); });
  breach([](PackedTexts& texts) { texts.types[0] = 2; });
  spec.positions = 3;
  EXPECT_THROW(check_texts(good, spec), CheckFailure);  // longer than the position table
  spec.positions = 0;                                   // rope
  EXPECT_NO_THROW(check_texts(good, spec));
  spec.token_types = 0;
  EXPECT_THROW(check_texts(good, spec), CheckFailure);
  PackedTexts texts = good;
  texts.types = {0, 0, 0, 0, 0};
  EXPECT_NO_THROW(check_texts(texts, spec));
  texts.tokens[2] = 10;
  EXPECT_THROW(check_texts(texts, spec), Error);
}

}  // namespace
}  // namespace cortex
