// Prompts whose tokens are scored, and texts that are encoded: what samples nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/planned_steps.h"
#include "engine/scheduler.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(SchedulerScores, ScoresAPromptInChunksWithoutSampling) {
  BlockPool pool(8);
  Scheduler scheduler({24, 8}, &pool);
  auto scoring = request(1, 20, 0);
  scoring.prompt_logprobs = true;
  scheduler.add(scoring);
  scheduler.add(request(2, 8, 4));
  const StepPlan& plan = scheduler.plan();
  EXPECT_THAT(slices_of(plan), ElementsAre("0+20[0 1]"));
  ASSERT_EQ(plan.wanted.size(), 19u);
  for (std::size_t i = 0; i < 19; ++i) {
    EXPECT_EQ(plan.wanted[i].row, static_cast<int>(i));
    EXPECT_FALSE(plan.wanted[i].token || plan.wanted[i].logits);
    EXPECT_THAT(plan.wanted[i].scores, ElementsAre(100 + static_cast<int>(i) + 1));
  }
  const auto events = scheduler.commit(answer(plan));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].event.prompt_logprobs.size(), 19u);
  EXPECT_EQ(events[0].event.finish, FinishReason::length);
  EXPECT_TRUE(events[0].event.tokens.empty());
  EXPECT_EQ(pool.used_blocks(), 1);  // the second's
}

TEST(SchedulerScores, ScoresComeBeforeTheFirstToken) {
  BlockPool pool(8);
  Scheduler scheduler({24, 8}, &pool);
  auto scoring = request(1, 30, 1);
  scoring.prompt_logprobs = true;
  scheduler.add(scoring);
  const auto first = scheduler.commit(answer(scheduler.plan()));
  EXPECT_EQ(first[0].event.prompt_logprobs.size(), 16u);
  const auto second = scheduler.commit(answer(scheduler.plan()));
  EXPECT_EQ(second[0].event.prompt_logprobs.size(), 13u);
  EXPECT_EQ(second[0].event.tokens.size(), 1u);
  EXPECT_EQ(second[0].event.finish, FinishReason::length);
}

TEST(SchedulerScores, APromptsAlternativesComeWithItsScores) {
  BlockPool pool(8);
  Scheduler scheduler({24, 8}, &pool);
  auto scoring = request(1, 20, 1);
  scoring.prompt_logprobs = scoring.logprobs = true;
  scoring.top_logprobs = 2;
  scheduler.add(scoring);
  const StepPlan& plan = scheduler.plan();
  StepResult result = answer(plan);
  for (std::size_t i = 0; i < plan.wanted.size(); ++i) {
    EXPECT_EQ(plan.wanted[i].top_logprobs, 2);
    result.rows[i].top_logprobs = {{static_cast<TokenId>(i), -0.5f}, {7, -1.5f}};
  }
  const auto events = scheduler.commit(result);
  const GenerateEvent& event = events[0].event;
  ASSERT_EQ(event.prompt_top_logprobs.size(), event.prompt_logprobs.size());
  EXPECT_EQ(event.prompt_top_logprobs[18][0].token, 18);
  EXPECT_EQ(event.prompt_top_logprobs[18][1].logprob, -1.5f);
  EXPECT_EQ(event.tokens[0].top_logprobs[0].token, 19);
}

TEST(SchedulerScores, AOneTokenPromptIsScoredByNothing) {
  BlockPool pool(8);
  Scheduler scheduler({24, 8}, &pool);
  auto scoring = request(1, 1, 0);
  scoring.prompt_logprobs = true;
  scheduler.add(scoring);
  const auto events = scheduler.commit(answer(scheduler.plan()));
  EXPECT_TRUE(events[0].event.prompt_logprobs.empty());
  EXPECT_EQ(events[0].event.finish, FinishReason::length);
}

TEST(SchedulerScores, ATextSamplesNothingAndGivesItsLastRow) {
  BlockPool pool(8);
  Scheduler scheduler({24, 8}, &pool);
  const std::vector<TokenId> scores = {3, 9};
  scheduler.add(text(1, 5, 20));
  scheduler.add(text(1, 6, 4, scores));
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("0+20[0 1]", "0+4[2]"));
  EXPECT_THAT(scheduler.planned(), ElementsAre(1, 1));
  EXPECT_EQ(scheduler.running_texts(), 2);
  const auto& wanted = scheduler.planned_step().wanted;
  EXPECT_THAT(wanted_rows(scheduler.planned_step()), ElementsAre(19, 23));
  EXPECT_TRUE(wanted[0].hidden && wanted[0].scores.empty() && !wanted[0].token && !wanted[0].logits);
  EXPECT_THAT(wanted[1].scores, ElementsAre(3, 9));
  EXPECT_FALSE(wanted[1].hidden || wanted[1].token || wanted[1].logits);
  const auto events = scheduler.commit(answer(scheduler.planned_step()));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].text, 5u);
  EXPECT_THAT(events[0].row, ElementsAre(0.5f, 2.0f));
  EXPECT_EQ(events[0].event.finish, FinishReason::length);
  EXPECT_TRUE(events[0].event.tokens.empty());
  EXPECT_EQ(events[1].text, 6u);
  EXPECT_THAT(events[1].row, ElementsAre(-0.25f, -0.25f));
  EXPECT_EQ(pool.used_blocks(), 0);
  EXPECT_TRUE(scheduler.idle());
}

TEST(SchedulerScores, ATextIsCutIntoChunksLikeAnyPrompt) {
  BlockPool pool(8);
  Scheduler scheduler({24, 8}, &pool);
  scheduler.add(text(1, 0, 40));
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("0+16[0 1 2]"));
  EXPECT_TRUE(scheduler.planned_step().wanted.empty());
  EXPECT_TRUE(scheduler.commit(answer(scheduler.planned_step())).empty());
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("16+24[0 1 2]"));
  EXPECT_EQ(scheduler.commit(answer(scheduler.planned_step())).size(), 1u);
}

TEST(SchedulerScores, CancelTakesAllTextsOfARequest) {
  BlockPool pool(3);
  Scheduler scheduler({64, 8}, &pool);
  for (std::size_t i = 0; i < 4; ++i) scheduler.add(text(1, i, 16));
  scheduler.add(request(2, 16, 16));
  scheduler.commit(answer(scheduler.plan()));
  scheduler.plan();
  scheduler.fail_step();
  for (std::size_t i = 0; i < 4; ++i) scheduler.add(text(3, i, 16));
  scheduler.commit(answer(scheduler.plan()));
  EXPECT_TRUE(scheduler.cancel(3));
  EXPECT_FALSE(scheduler.cancel(3));
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(pool.used_blocks(), 0);
}

TEST(SchedulerScores, ATextThatThePoolCanNeverHoldIsRefused) {
  BlockPool pool(2);
  Scheduler scheduler({64, 8}, &pool);
  scheduler.add(text(1, 0, 32));
  try {
    scheduler.add(text(2, 0, 33));
    FAIL() << "was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::request_cannot_fit);
    EXPECT_THAT(error.message(), HasSubstr("33 tokens"));
  }
}

}  // namespace
}  // namespace cortex
