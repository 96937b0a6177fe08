// Guides in the scheduler's steps: the masks of rows, what they force, and what becomes of those that throw.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "base/error.h"
#include "engine/scheduler.h"
#include "engine/scripted_drafts.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SchedulerGuide, AGuideMasksEachRowAndCutsWhatMayNotCome) {
  Taught t(8);
  t.scheduler.draft_with(always({10, 11, 30, 12}), kVocabulary);
  t.scheduler.add(asking(1, 20, 30), std::make_unique<ScriptedGuide>(std::vector<TokenId>{9, 10, 11, 12, 13, 14}, 40));
  const StepPlan& prompt = t.scheduler.plan();
  ASSERT_EQ(prompt.wanted[0].sampling.allowed.size(), 2u);
  EXPECT_EQ(prompt.wanted[0].sampling.allowed[0], 1u << 9);
  EXPECT_EQ(prompt.wanted[0].sampling.allowed[1], 1u << 8);
  t.commit({9});
  const StepPlan& plan = t.scheduler.plan();
  EXPECT_THAT(plan.tokens, ElementsAre(9, 10, 11));
  ASSERT_EQ(plan.wanted.size(), 3u);
  EXPECT_EQ(plan.wanted[0].sampling.allowed[0], 1u << 10);
  EXPECT_EQ(plan.wanted[1].sampling.allowed[0], 1u << 11);
  EXPECT_EQ(plan.wanted[2].sampling.allowed[0], 1u << 12);
  EXPECT_THAT(tokens_of(t.commit({10, 40, 12})[0]), ElementsAre(10, 40));
  EXPECT_EQ(t.scheduler.plan().wanted[0].sampling.allowed[0], 1u << 12);  // 9, 10, 40: it is at the fourth
}

TEST(SchedulerGuide, WhatAGrammarForcesComesFirst) {
  Taught t(8);
  t.scheduler.draft_with(always({63}), kVocabulary);
  t.scheduler.add(asking(1, 20, 30),
                  std::make_unique<ScriptedGuide>(std::vector<TokenId>{9, 10, 11, 12, 13, 14}, std::nullopt, 4));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_THAT(t.scheduler.plan().tokens, ElementsAre(9, 10, 11, 12, 13));
  EXPECT_THAT(tokens_of(t.commit({10, 11, 12, 13, 14})[0]), ElementsAre(10, 11, 12, 13, 14));
}

TEST(SchedulerGuide, AGuideThatThrowsEndsItsSequence) {
  for (const int throws_at : {0, 1, 3}) {
    Taught t(8);
    t.scheduler.draft_with(always({10, 11, 12}), kVocabulary);
    auto guide = std::make_unique<ScriptedGuide>(std::vector<TokenId>{9, 10, 11, 12, 13, 14});
    guide->throws_at = throws_at;
    t.scheduler.add(asking(1, 16, 20), std::move(guide));
    t.scheduler.add(asking(2, 16, 20));
    std::vector<SequenceEvent> failed;
    for (int step = 0; step < 4 && failed.empty(); ++step) {
      t.scheduler.plan();
      failed = t.scheduler.take_failed();
      std::vector<TokenId> tokens;
      for (const WantedRow& wanted : t.scheduler.planned_step().wanted) {
        tokens.push_back(static_cast<TokenId>(wanted.sampling.position - 16 + 9));
      }
      t.commit(tokens);
    }
    ASSERT_EQ(failed.size(), 1u);
    EXPECT_EQ(failed[0].id, 1u);
    ASSERT_TRUE(failed[0].event.error);
    EXPECT_EQ(failed[0].event.error->code(), ErrorCode::invalid_grammar);
    EXPECT_EQ(t.scheduler.running(), 1);
    EXPECT_THAT(t.scheduler.take_failed(), IsEmpty());
    t.scheduler.cancel(2);
    EXPECT_EQ(t.pool.used_blocks(), 0);
  }
}

// One that is alone leaves a step with nothing in it.
TEST(SchedulerGuide, AGuideThatThrowsAlone) {
  BlockPool pool(4);
  Scheduler scheduler({64, 4}, &pool);
  auto guide = std::make_unique<ScriptedGuide>(std::vector<TokenId>{9});
  guide->throws_at = 0;
  scheduler.add(asking(1, 16, 20), std::move(guide));
  EXPECT_THAT(scheduler.plan().slices, IsEmpty());
  EXPECT_FALSE(scheduler.in_step());
  EXPECT_EQ(scheduler.take_failed().size(), 1u);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(pool.used_blocks(), 0);
}

}  // namespace
}  // namespace cortex
