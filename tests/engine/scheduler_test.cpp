#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/error.h"
#include "engine/planned_steps.h"

namespace cortex {
namespace {

using testing::ElementsAre;

TEST(Scheduler, ComputesAPromptThenOneRowAStep) {
  BlockPool pool(4);
  Scheduler scheduler({256, 8}, &pool);
  scheduler.add(request(1, 20, 3));  // 23 tokens: 2 blocks
  const StepPlan& prompt = scheduler.plan();
  EXPECT_THAT(slices_of(prompt), ElementsAre("0+20[0 1]"));
  EXPECT_EQ(prompt.tokens, prompt_of(20));
  EXPECT_THAT(wanted_rows(prompt), ElementsAre(19));
  EXPECT_TRUE(prompt.wanted[0].token);
  EXPECT_EQ(prompt.wanted[0].sampling.position, 20);
  auto events = scheduler.commit(answer(prompt, 7));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].event.tokens[0].token, 7);
  EXPECT_FALSE(events[0].event.last());

  const StepPlan& decode = scheduler.plan();
  EXPECT_THAT(slices_of(decode), ElementsAre("20+1[0 1]"));
  EXPECT_THAT(decode.tokens, ElementsAre(7));
  EXPECT_EQ(decode.wanted[0].sampling.position, 21);
  scheduler.commit(answer(decode, 8));

  const StepPlan& last = scheduler.plan();
  EXPECT_THAT(slices_of(last), ElementsAre("21+1[0 1]"));
  EXPECT_THAT(last.tokens, ElementsAre(8));
  events = scheduler.commit(answer(last, 9));
  EXPECT_EQ(events[0].event.finish, FinishReason::length);
  EXPECT_EQ(pool.used_blocks(), 0);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_TRUE(scheduler.plan().slices.empty());
}

TEST(Scheduler, DecodesFirstAndFillsTheStepWithPromptChunks) {
  BlockPool pool(64);
  Scheduler scheduler({40, 8}, &pool);
  scheduler.add(request(1, 5, 10));
  scheduler.commit(answer(scheduler.plan()));
  scheduler.add(request(2, 50, 14));  // 4 blocks
  scheduler.add(request(3, 30, 2));   // 2 blocks
  // 39 rows are left: a chunk of the second ends on a block, the 7 rows that are left make no block of the third.
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("5+1[0]", "0+32[1 2 3 4]"));
  EXPECT_THAT(scheduler.planned(), ElementsAre(1, 2));
  scheduler.commit(answer(scheduler.planned_step()));
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("6+1[0]", "32+18[1 2 3 4]", "0+16[5 6]"));
  EXPECT_THAT(wanted_rows(scheduler.planned_step()), ElementsAre(0, 18));
  scheduler.commit(answer(scheduler.planned_step()));
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("7+1[0]", "50+1[1 2 3 4]", "16+14[5 6]"));
}

TEST(Scheduler, AStepIsOfTheKindOfWhatItCarries) {
  BlockPool pool(20);
  Scheduler scheduler({64, 8}, &pool);
  const auto kind_of_next = [&] {
    const StepPlan& plan = scheduler.plan();
    EXPECT_FALSE(plan.slices.empty());
    const StepKind kind = scheduler.planned_kind();
    scheduler.commit(answer(plan));
    EXPECT_EQ(scheduler.planned_kind(), kind);
    return kind;
  };
  scheduler.add(request(1, 70, 4));
  EXPECT_EQ(kind_of_next(), StepKind::prompt);
  EXPECT_EQ(kind_of_next(), StepKind::prompt);
  EXPECT_EQ(kind_of_next(), StepKind::decode);
  scheduler.add(request(2, 20, 1));
  EXPECT_EQ(kind_of_next(), StepKind::mixed);
  scheduler.add(text(3, 0, 5));
  EXPECT_EQ(kind_of_next(), StepKind::mixed);
  scheduler.add(text(4, 0, 1));  // a single row, and yet a text
  EXPECT_EQ(kind_of_next(), StepKind::encode);
  scheduler.add(request(7, 1, 2));  // a single row, and yet a prompt
  EXPECT_EQ(kind_of_next(), StepKind::prompt);
  EXPECT_EQ(kind_of_next(), StepKind::decode);
  scheduler.add(text(5, 0, 30));
  scheduler.add(request(6, 20, 1));
  EXPECT_EQ(kind_of_next(), StepKind::mixed);
  EXPECT_TRUE(scheduler.idle());
}

TEST(Scheduler, AStopIdEndsASequence) {
  BlockPool pool(8);
  Scheduler scheduler({64, 8}, &pool);
  auto stopping = request(1, 4, 10);
  stopping.stop_ids = {3, 9};
  scheduler.add(stopping);
  EXPECT_FALSE(scheduler.commit(answer(scheduler.plan(), 8))[0].event.last());
  const auto events = scheduler.commit(answer(scheduler.plan(), 9));
  EXPECT_EQ(events[0].event.finish, FinishReason::stop);
  EXPECT_EQ(events[0].event.tokens[0].token, 9);
  EXPECT_EQ(pool.used_blocks(), 0);
}

TEST(Scheduler, CancelFreesBlocksAtOnce) {
  BlockPool pool(8);
  Scheduler scheduler({64, 8}, &pool);
  scheduler.add(request(1, 16, 16));
  scheduler.add(request(2, 16, 16));
  scheduler.commit(answer(scheduler.plan()));
  EXPECT_EQ(pool.used_blocks(), 2);
  EXPECT_TRUE(scheduler.cancel(1));
  EXPECT_EQ(pool.used_blocks(), 1);
  EXPECT_FALSE(scheduler.cancel(1));
  scheduler.add(request(3, 16, 16));
  EXPECT_TRUE(scheduler.cancel(3));  // still waiting
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("16+1[1 2]"));
  EXPECT_THROW(scheduler.cancel(2), CheckFailure);  // a device may be reading its blocks
}

TEST(Scheduler, CapsItsLimits) {
  const auto refusal = [](SchedulerLimits limits) -> std::string {
    BlockPool pool(1);
    try {
      Scheduler scheduler(limits, &pool);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_option);
      return error.message();
    }
    return "none";
  };
  constexpr int kMost = std::numeric_limits<int>::max();
  EXPECT_EQ(refusal({kMostRowsPerStep, kMostSequences}), "none");
  EXPECT_EQ(refusal({kMost, 64}), "rows_per_step: 2147483647 is above 65536");
  EXPECT_EQ(refusal({256, kMost}), "max_sequences: 2147483647 is not in [1, 4096]");
  EXPECT_EQ(refusal({kMost, kMost}), "max_sequences: 2147483647 is not in [1, 4096]");
  EXPECT_EQ(refusal({256, 0}), "max_sequences: 0 is not in [1, 4096]");
  EXPECT_EQ(refusal({256, -1}), "max_sequences: -1 is not in [1, 4096]");
}

TEST(Scheduler, CountsForPenaltiesGrowAsTokensCome) {
  BlockPool pool(8);
  Scheduler scheduler({64, 8}, &pool);
  auto penalised = request(1, 0, 5);
  penalised.prompt = {5, 6, 5};
  penalised.sampling.frequency_penalty = 0.5f;
  scheduler.add(penalised);
  scheduler.commit(answer(scheduler.plan(), 6));
  scheduler.commit(answer(scheduler.plan(), 9));
  const auto counts = scheduler.plan().wanted[0].sampling.counts;
  ASSERT_EQ(counts.size(), 3u);
  const auto is = [&](std::size_t i, TokenId token, int in_prompt, int in_output) {
    EXPECT_EQ(counts[i].token, token);
    EXPECT_EQ(counts[i].in_prompt, in_prompt);
    EXPECT_EQ(counts[i].in_output, in_output);
  };
  is(0, 5, 2, 0);
  is(1, 6, 1, 1);
  is(2, 9, 0, 1);
}

TEST(Scheduler, CountsNothingWhilePenaltiesAreOff) {
  BlockPool pool(8);
  Scheduler scheduler({64, 8}, &pool);
  scheduler.add(request(1, 3, 5));
  scheduler.commit(answer(scheduler.plan(), 6));
  EXPECT_TRUE(scheduler.plan().wanted[0].sampling.counts.empty());
}

TEST(Scheduler, LogprobsAreWantedOnlyWhenAsked) {
  BlockPool pool(8);
  Scheduler scheduler({64, 8}, &pool);
  auto with = request(1, 3, 5);
  with.logprobs = true;
  with.top_logprobs = 4;
  auto without = request(2, 3, 5);
  without.top_logprobs = 4;
  scheduler.add(with);
  scheduler.add(without);
  const StepPlan& plan = scheduler.plan();
  EXPECT_EQ(plan.wanted[0].top_logprobs, 4);
  EXPECT_EQ(plan.wanted[1].top_logprobs, 0);
}

// Whatever happens, steps stay within their rows, everything ends and every block comes back.
TEST(Scheduler, RandomTrafficKeepsTheInvariants) {
  std::mt19937 random(11);
  BlockPool pool(24);
  Scheduler scheduler({48, 6}, &pool);
  RequestId next = 1;
  std::map<RequestId, int> left;  // tokens that are still to come
  for (int turn = 0; turn < 4000; ++turn) {
    if (turn < 3000 && random() % 3 == 0) {
      auto made = request(next, 1 + static_cast<int>(random() % 120), static_cast<int>(random() % 30));
      made.priority = static_cast<int>(random() % 3);
      left[next++] = made.max_tokens;
      scheduler.add(made);
    }
    if (random() % 10 == 0 && !left.empty()) {
      const RequestId victim = std::next(left.begin(), static_cast<int>(random() % left.size()))->first;
      ASSERT_TRUE(scheduler.cancel(victim));
      left.erase(victim);
    }
    const StepPlan& plan = scheduler.plan();
    if (plan.slices.empty()) {
      ASSERT_TRUE(scheduler.idle());
      continue;
    }
    ASSERT_LE(plan.tokens.size(), 48u);
    for (const SequenceSlice& slice : plan.slices) {
      ASSERT_LE((slice.start + slice.rows + 15) / 16, static_cast<int>(slice.blocks.size()));
    }
    if (turn % 97 == 0) {
      scheduler.fail_step();
      for (const RequestId id : scheduler.planned()) ASSERT_EQ(left.erase(id), 1u);
      continue;
    }
    const auto events = scheduler.commit(answer(plan));
    for (const auto& [id, event, text, row, hit, drafted, accepted] : events) {
      left[id] -= static_cast<int>(event.tokens.size());
      if (event.finish) {
        ASSERT_EQ(left[id], 0);
      }
      if (event.last()) left.erase(id);
    }
  }
  EXPECT_TRUE(left.empty());
  EXPECT_EQ(pool.used_blocks(), 0);
}

}  // namespace
}  // namespace cortex
