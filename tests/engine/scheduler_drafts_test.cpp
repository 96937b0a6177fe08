// Drafts in the scheduler's steps: which rows ride, into which blocks, by which penalties, and what is kept of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "base/error.h"
#include "engine/planned_steps.h"
#include "engine/scheduler.h"
#include "engine/scripted_drafts.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SchedulerDrafts, RideBehindTheLastTokenAndAreKeptWhileTheyAreRight) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 2, 3, 4}), kVocabulary);
  t.scheduler.add(asking(1, 20, 30));
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("0+20[0 1]"));  // the step that ends the prompt has no drafts
  t.commit({9});
  const StepPlan& plan = t.scheduler.plan();
  EXPECT_THAT(slices_of(plan), ElementsAre("20+5[0 1]"));
  EXPECT_THAT(plan.tokens, ElementsAre(9, 1, 2, 3, 4));
  ASSERT_EQ(plan.wanted.size(), 5u);
  for (int i = 0; i < 5; ++i) {
    const WantedRow& wanted = plan.wanted[static_cast<std::size_t>(i)];
    EXPECT_EQ(wanted.row, i);
    EXPECT_TRUE(wanted.token);
    EXPECT_EQ(wanted.sampling.position, 21 + i);
  }
  EXPECT_EQ(t.scheduler.planned_kind(), StepKind::decode);
  const auto events = t.commit({1, 2, 7, 4, 5});  // two are right; what follows a wrong one counts for nothing
  ASSERT_EQ(events.size(), 1u);
  EXPECT_THAT(tokens_of(events[0]), ElementsAre(1, 2, 7));
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("23+5[0 1]"));
  EXPECT_EQ(t.scheduler.planned_step().tokens[0], 7);
  EXPECT_THAT(tokens_of(t.commit({1, 2, 3, 4, 5})[0]), ElementsAre(1, 2, 3, 4, 5));  // all, and one more
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("28+5[0 1 2]"));
  EXPECT_EQ(t.pool.used_blocks(), 3);
  EXPECT_THAT(tokens_of(t.commit({0, 0, 0, 0, 0})[0]), ElementsAre(0));
  EXPECT_EQ(t.pool.used_blocks(), 2);  // what only drafts needed is back
  EXPECT_EQ(t.speculation().drafted, 12u);
  EXPECT_EQ(t.speculation().accepted, 6u);
  EXPECT_EQ(t.speculation().steps, 4u);
  EXPECT_NEAR(t.speculation().saved_ms, 6 * 10.1 - 12 * 0.1, 1.0);
}

TEST(SchedulerDrafts, StopIdsAndMaxTokensHold) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 2, 3, 4}), kVocabulary);
  auto stopping = asking(1, 20, 30);
  stopping.stop_ids = {3};
  t.scheduler.add(stopping);
  t.scheduler.plan();
  t.commit({9});
  EXPECT_THAT(t.scheduler.plan().tokens, ElementsAre(9, 1, 2));  // a stop id has no row
  auto events = t.commit({1, 3, 5});
  EXPECT_THAT(tokens_of(events[0]), ElementsAre(1, 3));
  EXPECT_EQ(events[0].event.finish, FinishReason::stop);
  EXPECT_EQ(events[0].draft_tokens, 2);
  EXPECT_EQ(events[0].draft_accepted, 1);
  EXPECT_TRUE(t.scheduler.idle());
  EXPECT_EQ(t.pool.used_blocks(), 0);

  t.scheduler.add(asking(2, 20, 4));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_THAT(t.scheduler.plan().tokens, ElementsAre(9, 1, 2));  // three are left: the last one needs no row
  events = t.commit({1, 2, 3});
  EXPECT_THAT(tokens_of(events[0]), ElementsAre(1, 2, 3));
  EXPECT_EQ(events[0].event.finish, FinishReason::length);
  EXPECT_TRUE(t.scheduler.idle());
}

TEST(SchedulerDrafts, TakeNoBlocksThatOthersNeed) {
  Taught t(4);
  t.scheduler.draft_with(always({1, 2, 3, 4}), kVocabulary);
  t.scheduler.add(asking(1, 14, 30));
  t.scheduler.add(asking(2, 15, 17));
  t.scheduler.plan();
  t.commit({9, 9});
  // 14 + 1 tokens leave one place in a block, and the two free blocks are what the two grow into.
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("14+2[0]", "15+1[1]"));
  t.commit({0, 1, 0});
  EXPECT_EQ(t.scheduler.kv_status().preemptions, 0u);
}

TEST(SchedulerDrafts, LeavePromptsTheirRows) {
  Taught t(32, {24, 4});
  t.scheduler.draft_with(always(std::vector<TokenId>(20, 5)), kVocabulary);
  t.scheduler.add(asking(1, 4, 40));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_EQ(t.scheduler.plan().slices[0].rows, 21);
  t.commit(std::vector<TokenId>(21, 6));
  t.scheduler.add(asking(2, 64, 40));
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("5+8[0]", "0+16[1 2 3 4]"));
  EXPECT_EQ(t.scheduler.planned_kind(), StepKind::mixed);
}

TEST(SchedulerDrafts, LeavePromptsHalfOfALargeStep) {
  Taught t(32, {64, 4});
  t.scheduler.draft_with(always(std::vector<TokenId>(40, 5)), kVocabulary);
  t.scheduler.add(asking(1, 4, 100));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_EQ(t.scheduler.plan().slices[0].rows, 33);
  t.commit(std::vector<TokenId>(33, 5));
  t.scheduler.add(asking(2, 64, 40));
  const auto slices = t.scheduler.plan().slices;
  EXPECT_EQ(slices[0].rows, 32);
  EXPECT_EQ(slices.at(1).rows, 32);
}

TEST(SchedulerDrafts, ABudgetForbidsThem) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 2}), kVocabulary);
  t.scheduler.add(asking(1, 20, 30));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_THAT(slices_of(t.scheduler.plan({.drafts = false})), ElementsAre("20+1[0 1]"));
  t.commit({1});
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("21+3[0 1]"));
}

TEST(SchedulerDrafts, EachRowHasThePenaltiesOfItsPlace) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 9, 1}), kVocabulary);
  auto penalised = asking(1, 1, 30);
  penalised.prompt = {9, 8};
  penalised.sampling.frequency_penalty = 0.5f;
  t.scheduler.add(penalised);
  t.scheduler.plan();
  t.commit({9});
  const StepPlan& plan = t.scheduler.plan();
  ASSERT_EQ(plan.wanted.size(), 4u);
  const auto counts = [&](std::size_t row) {
    std::map<TokenId, std::pair<int, int>> counts;
    for (const TokenCount& count : plan.wanted[row].sampling.counts) {
      EXPECT_TRUE(counts.emplace(count.token, std::pair(count.in_prompt, count.in_output)).second);
    }
    return counts;
  };
  using Counts = std::map<TokenId, std::pair<int, int>>;
  EXPECT_EQ(counts(0), (Counts{{9, {1, 1}}, {8, {1, 0}}}));
  EXPECT_EQ(counts(1), (Counts{{9, {1, 1}}, {8, {1, 0}}, {1, {0, 1}}}));
  EXPECT_EQ(counts(2), (Counts{{9, {1, 2}}, {8, {1, 0}}, {1, {0, 1}}}));
  EXPECT_EQ(counts(3), (Counts{{9, {1, 2}}, {8, {1, 0}}, {1, {0, 2}}}));
}

TEST(SchedulerDrafts, IdsThatDoNotExistNeverRide) {
  for (const TokenId wrong :
       {TokenId{-1}, TokenId{kVocabulary}, std::numeric_limits<TokenId>::max(), std::numeric_limits<TokenId>::min()}) {
    Taught t(8);
    t.scheduler.draft_with(always({1, wrong, 2}), kVocabulary);
    t.scheduler.add(asking(1, 20, 30));
    t.scheduler.plan();
    t.commit({9});
    EXPECT_THAT(t.scheduler.plan().tokens, ElementsAre(9, 1));
    t.commit({1, 5});
  }
}

TEST(SchedulerDrafts, TheDrafterHearsOfEnds) {
  Taught t(8);
  auto drafter = std::make_unique<ScriptedDrafter>([](const DraftContext&, int) { return Draft{}; });
  const ScriptedDrafter& heard = *drafter;
  t.scheduler.draft_with(std::move(drafter), kVocabulary);
  t.scheduler.add(asking(1, 4, 2));
  t.scheduler.plan();
  t.commit({9});
  t.scheduler.plan();
  t.commit({8});
  ASSERT_EQ(heard.finished.size(), 1u);
  EXPECT_THAT(heard.finished[0], ElementsAre(7, 8, 11, 16, 9, 8));
  EXPECT_EQ(heard.last_forgotten, 1u);
  t.scheduler.add(asking(2, 4, 20));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_TRUE(t.scheduler.cancel(2));
  EXPECT_EQ(heard.finished.size(), 2u);
  EXPECT_EQ(heard.last_forgotten, 2u);
  t.scheduler.add(asking(3, 4, 20));
  t.scheduler.plan();
  t.scheduler.fail_step();  // nothing was learnt from it
  EXPECT_EQ(heard.finished.size(), 2u);
  EXPECT_EQ(heard.last_forgotten, 3u);
}

TEST(SchedulerDrafts, ADrafterThatThrowsIsNotAskedAgain) {
  Taught t(8);
  int asked = 0;
  t.scheduler.draft_with(std::make_unique<ScriptedDrafter>([&](const DraftContext&, int) -> Draft {
                           ++asked;
                           throw std::runtime_error("broken");
                         }),
                         kVocabulary);
  t.scheduler.add(asking(1, 20, 5));
  while (!t.scheduler.idle()) {
    t.scheduler.plan();
    t.commit({9});
  }
  EXPECT_EQ(asked, 1);
}

TEST(SchedulerDrafts, AFaultInDraftingCostsDraftsOnly) {
  Taught taught(8);
  Scheduler& scheduler = taught.scheduler;
  scheduler.draft_with(always({5, 6}), kVocabulary);
  std::vector<std::string> reached;
  scheduler.set_failpoint([&](std::string_view phase, std::span<const TokenId> tokens) {
    reached.emplace_back(phase);
    if (phase == "draft" && tokens.front() == asking(1, 4, 6).prompt.front()) throw std::runtime_error("no drafts");
  });
  scheduler.add(asking(1, 4, 6));
  scheduler.add(asking(2, 4, 6));
  scheduler.plan();
  taught.commit({4, 4});
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("4+1[0]", "4+3[1]"));
  const auto events = taught.commit({5, 5, 6, 7});
  ASSERT_EQ(events.size(), 2u);
  EXPECT_THAT(tokens_of(events[0]), ElementsAre(5));
  EXPECT_THAT(tokens_of(events[1]), ElementsAre(5, 6, 7));
  EXPECT_THAT(reached, ElementsAre("draft", "draft", "verify"));
}

// The others of the step go on, and the block of those that fail is free again.
TEST(SchedulerDrafts, AFaultInVerifyingFailsItsSequenceOnly) {
  Taught taught(8);
  Scheduler& scheduler = taught.scheduler;
  scheduler.draft_with(always({5, 6}), kVocabulary);
  scheduler.add(asking(1, 4, 6));
  scheduler.add(asking(2, 4, 6));
  scheduler.plan();
  taught.commit({4, 4});
  std::vector<std::vector<TokenId>> verified;
  scheduler.set_failpoint([&](std::string_view phase, std::span<const TokenId> tokens) {
    if (phase != "verify") return;
    verified.emplace_back(tokens.begin(), tokens.end());
    if (verified.size() == 1) throw Error(ErrorCode::internal_error, "no room to look");
  });
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("4+3[0]", "4+3[1]"));
  const auto events = taught.commit({5, 6, 7, 5, 9, 9});
  EXPECT_THAT(verified, ElementsAre(ElementsAre(5, 6, 7), ElementsAre(5, 9)));
  ASSERT_EQ(events.size(), 2u);
  ASSERT_TRUE(events[0].event.error);
  EXPECT_EQ(events[0].event.error->message(), "no room to look");
  EXPECT_THAT(events[0].event.tokens, IsEmpty());
  EXPECT_THAT(tokens_of(events[1]), ElementsAre(5, 9));
  EXPECT_EQ(scheduler.running(), 1);
  EXPECT_EQ(taught.pool.used_blocks(), 1);
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("6+3[1]"));
  taught.commit({5, 6, 7});
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(taught.pool.used_blocks(), 0);
}

TEST(SchedulerDrafts, ARowThatIsNotFiniteEndsWhatReachesItOnly) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 2}), kVocabulary);
  t.scheduler.add(asking(1, 20, 30));
  t.scheduler.plan();
  t.commit({9});
  const auto commit = [&](const std::vector<TokenId>& tokens, std::size_t broken) {
    StepResult result = answer(t.scheduler.planned_step(), tokens);
    result.rows[broken] = {.finite = false};
    return t.scheduler.commit(result);
  };
  t.scheduler.plan();
  EXPECT_THAT(tokens_of(commit({7, 0, 0}, 1)[0]), ElementsAre(7));  // behind a wrong draft
  t.scheduler.plan();
  EXPECT_THAT(tokens_of(commit({1, 0, 0}, 1)[0]), ElementsAre(1));  // the next step meets it first
  EXPECT_EQ(t.scheduler.plan().slices[0].start, 22);
  EXPECT_EQ(t.scheduler.planned_step().tokens[0], 1);
  const auto events = commit({0, 0, 0}, 0);
  ASSERT_TRUE(events[0].event.error);
  EXPECT_EQ(events[0].event.error->code(), ErrorCode::numerical_error);
  EXPECT_TRUE(t.scheduler.idle());
}

}  // namespace
}  // namespace cortex
