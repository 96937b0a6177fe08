#include "cli/bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "engine/engine.h"
#include "fakes/fake_backend.h"
#include "fakes/fake_clock.h"

namespace cortex {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::Ge;
using testing::Lt;
using testing::SizeIs;

// What a step was, and what it chose.
struct Step {
  std::vector<TokenId> tokens;
  std::vector<int> starts, rows;             // [slices]
  std::vector<std::vector<BlockId>> blocks;  // [slices]
  std::vector<int> wanted;                   // rows
  bool greedy = true;
  std::vector<TokenId> chosen;  // [wanted]
};

constexpr auto kStep = std::chrono::milliseconds(10);

// A FakeDecoder that remembers its steps, each of which takes kStep.
class RecordingDecoder : public FakeDecoder {
 public:
  RecordingDecoder(FakeSwitches* switches, FakeClock* clock) : FakeDecoder(switches), clock_(clock) {}

  void reserve_kv(int blocks) override {
    reserved_blocks = blocks;
    FakeDecoder::reserve_kv(blocks);
  }
  void submit(const StepPlan& plan) override {
    Step step;
    step.tokens = plan.tokens;
    for (const SequenceSlice& slice : plan.slices) {
      step.starts.push_back(slice.start);
      step.rows.push_back(slice.rows);
      step.blocks.emplace_back(slice.blocks.begin(), slice.blocks.end());
    }
    for (const WantedRow& wanted : plan.wanted) {
      step.wanted.push_back(wanted.row);
      step.greedy = step.greedy && wanted.token && wanted.sampling.params.temperature == 0;
    }
    steps.push_back(step);
    clock_->advance(kStep);
    FakeDecoder::submit(plan);
  }
  void collect(StepResult* result) override {
    FakeDecoder::collect(result);
    for (RowResult& row : result->rows) {
      row.finite = finite;
      steps.back().chosen.push_back(row.token);
    }
  }

  int reserved_blocks = 0;
  bool finite = true;
  std::vector<Step> steps;

 private:
  FakeClock* const clock_;
};

class DecoderBenchTest : public testing::Test {
 protected:
  FakeSwitches switches_;
  FakeClock clock_;
  RecordingDecoder decoder_{&switches_, &clock_};
};

TEST(FixedTokens, AreTheSameEachTimeAndBelowTheVocabulary) {
  const std::vector<TokenId> tokens = fixed_tokens(2000, 300, 0);
  EXPECT_EQ(tokens, fixed_tokens(2000, 300, 0));
  EXPECT_NE(tokens, fixed_tokens(2000, 300, 1));
  EXPECT_THAT(tokens, SizeIs(2000));
  EXPECT_THAT(tokens, Each(Ge(0)));
  EXPECT_THAT(tokens, Each(Lt(300)));
  EXPECT_GT((std::set<TokenId>(tokens.begin(), tokens.end()).size()), 250u);
  // Of the generator that the standard defines.
  EXPECT_EQ(fixed_tokens(1, 1 << 30, 5489)[0], static_cast<TokenId>(3499211612u % (1u << 30)));
}

TEST(Median, IsInTheMiddle) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({4, 1, 9, 2}), 3);
}

TEST_F(DecoderBenchTest, PrefillIsOneSequenceInStepsOf512Rows) {
  DecoderBench bench(decoder_, 12, {1, 1100, 0}, clock_);  // of 12, none of the fake's special tokens
  EXPECT_EQ(bench.prefill(), 30);
  ASSERT_THAT(decoder_.steps, SizeIs(3));
  EXPECT_EQ(decoder_.reserved_blocks, 69);
  std::vector<TokenId> tokens;
  for (const Step& step : decoder_.steps) tokens.insert(tokens.end(), step.tokens.begin(), step.tokens.end());
  std::vector<TokenId> expected = fixed_tokens(1100, 12, 0);
  EXPECT_EQ(tokens, expected);
  EXPECT_THAT(decoder_.steps[0].starts, ElementsAre(0));
  EXPECT_THAT(decoder_.steps[1].starts, ElementsAre(512));
  EXPECT_THAT(decoder_.steps[2].starts, ElementsAre(1024));
  EXPECT_THAT(decoder_.steps[2].rows, ElementsAre(76));
  EXPECT_THAT(decoder_.steps[0].wanted, SizeIs(0));
  EXPECT_THAT(decoder_.steps[1].wanted, SizeIs(0));
  EXPECT_THAT(decoder_.steps[2].wanted, ElementsAre(75));
  EXPECT_TRUE(decoder_.steps[2].greedy);
}

TEST_F(DecoderBenchTest, PrefillBeginsAnewEachTime) {
  DecoderBench bench(decoder_, 12, {1, 20, 0}, clock_);
  bench.prefill();
  bench.prefill();
  ASSERT_THAT(decoder_.steps, SizeIs(2));
  EXPECT_EQ(decoder_.steps[0].tokens, decoder_.steps[1].tokens);
  EXPECT_EQ(decoder_.steps[0].chosen, decoder_.steps[1].chosen);
  EXPECT_THAT(decoder_.steps[1].starts, ElementsAre(0));
}

TEST_F(DecoderBenchTest, DecodeFeedsBackWhatWasChosen) {
  DecoderBench bench(decoder_, 12, {3, 5, 40}, clock_);
  bench.decode();
  ASSERT_THAT(decoder_.steps, SizeIs(3 + 40));
  EXPECT_EQ(decoder_.reserved_blocks, 3 * 3);
  std::set<BlockId> blocks;
  for (int i = 0; i < 3; ++i) {
    const std::vector<TokenId> prompt = decoder_.steps[static_cast<std::size_t>(i)].tokens;
    EXPECT_THAT(prompt, SizeIs(5));
    const std::vector<TokenId> reply = fake_reply(prompt, 41);
    for (std::size_t step = 0; step < 40; ++step) {
      const Step& found = decoder_.steps[3 + step];
      EXPECT_THAT(found.wanted, ElementsAre(0, 1, 2));
      EXPECT_THAT(found.starts, Each(5 + static_cast<int>(step)));
      EXPECT_THAT(found.rows, Each(1));
      EXPECT_TRUE(found.greedy);
      EXPECT_EQ(found.tokens[static_cast<std::size_t>(i)], reply[step]);
      EXPECT_EQ(found.chosen[static_cast<std::size_t>(i)], reply[step + 1]);
    }
    const auto& own = decoder_.steps[3].blocks[static_cast<std::size_t>(i)];
    blocks.insert(own.begin(), own.end());
  }
  EXPECT_THAT(blocks, SizeIs(9)) << "sequences share no block";
}

TEST_F(DecoderBenchTest, DecodeWithoutAPromptBeginsWithAFixedToken) {
  DecoderBench bench(decoder_, 12, {2, 0, 16}, clock_);
  bench.decode();
  bench.decode();
  ASSERT_THAT(decoder_.steps, SizeIs(32));
  EXPECT_EQ(decoder_.reserved_blocks, 2);
  EXPECT_THAT(decoder_.steps[0].starts, ElementsAre(0, 0));
  EXPECT_THAT(decoder_.steps[15].starts, ElementsAre(15, 15));
  EXPECT_THAT(decoder_.steps[0].tokens, ElementsAre(fixed_tokens(1, 12, 0)[0], fixed_tokens(1, 12, 1)[0]));
  EXPECT_EQ(decoder_.steps[0].tokens, decoder_.steps[16].tokens);
  EXPECT_EQ(decoder_.steps[15].chosen, decoder_.steps[31].chosen);
}

TEST_F(DecoderBenchTest, TheTimeOfDecodeLeavesOutThePrompts) {
  DecoderBench bench(decoder_, 12, {4, 600, 5}, clock_);
  EXPECT_EQ(bench.decode(), 50);
  EXPECT_EQ(bench.prefill(), 80);
}

TEST_F(DecoderBenchTest, WhatIsNotFiniteEndsIt) {
  decoder_.finite = false;
  DecoderBench bench(decoder_, 12, {1, 4, 4}, clock_);
  try {
    bench.decode();
    FAIL() << "an error is expected";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::numerical_error);
  }
}

class RecordingEncoder : public FakeEncoder {
 public:
  RecordingEncoder(FakeSwitches* switches, FakeClock* clock) : FakeEncoder(switches), clock_(clock) {}
  void encode(const PackedTexts& given, EncodeResult* result) override {
    texts.push_back(given);
    clock_->advance(kStep);
    FakeEncoder::encode(given, result);
  }
  std::vector<PackedTexts> texts;

 private:
  FakeClock* const clock_;
};

TEST(EncoderBench, EncodesAllTextsByOneCall) {
  FakeSwitches switches;
  FakeClock clock;
  RecordingEncoder encoder(&switches, &clock);
  EncoderBench bench(encoder, 12, 3, 7, clock);
  EXPECT_EQ(bench.encode(), 10);
  bench.encode();
  ASSERT_THAT(encoder.texts, SizeIs(2));
  EXPECT_THAT(encoder.texts[0].starts, ElementsAre(0, 7, 14, 21));
  EXPECT_EQ(encoder.texts[0].tokens, fixed_tokens(21, 12, 0));
  EXPECT_EQ(encoder.texts[0].tokens, encoder.texts[1].tokens);
  EXPECT_FALSE(encoder.texts[0].hidden);
}

}  // namespace
}  // namespace cortex
