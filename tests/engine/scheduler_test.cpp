#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/error.h"
#include "engine/failing_allocation.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<TokenId> prompt_of(int tokens, TokenId first = 100) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < tokens; ++i) prompt.push_back(first + i);
  return prompt;
}

GenerateRequest request(RequestId id, int prompt_tokens, int max_tokens) {
  GenerateRequest made;
  made.id = id;
  made.prompt = prompt_of(prompt_tokens, static_cast<TokenId>(100 * id));  // each its own
  made.max_tokens = max_tokens;
  made.sampling.temperature = 0.0f;
  return made;
}

// What a plan says, one string a slice: "start+rows[blocks]".
std::vector<std::string> slices_of(const StepPlan& plan) {
  std::vector<std::string> slices;
  int row = 0;
  for (const SequenceSlice& slice : plan.slices) {
    EXPECT_EQ(slice.first_row, row);
    row += slice.rows;
    std::string text = std::to_string(slice.start) + "+" + std::to_string(slice.rows) + "[";
    for (std::size_t i = 0; i < slice.blocks.size(); ++i) text += (i ? " " : "") + std::to_string(slice.blocks[i]);
    slices.push_back(text + "]");
  }
  EXPECT_EQ(static_cast<int>(plan.tokens.size()), row);
  return slices;
}

std::vector<int> wanted_rows(const StepPlan& plan) {
  std::vector<int> rows;
  for (const WantedRow& wanted : plan.wanted) rows.push_back(wanted.row);
  return rows;
}

// Every wanted token is `token`, every score -0.25, every state {0.5, 2}.
StepResult answer(const StepPlan& plan, TokenId token = 7) {
  StepResult result;
  for (const WantedRow& wanted : plan.wanted) {
    RowResult row;
    if (wanted.token) {
      row.token = token;
      row.logprob = -1.5f;
    }
    row.scores.assign(wanted.scores.size(), -0.25f);
    if (wanted.hidden) row.hidden = {0.5f, 2.0f};
    result.rows.push_back(row);
  }
  return result;
}

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

TEST(Scheduler, StartsByPriorityThenArrival) {
  BlockPool pool(2);
  Scheduler scheduler({64, 8}, &pool);
  auto make = [](RequestId id, int priority) {
    auto made = request(id, 16, 16);  // both blocks
    made.priority = priority;
    return made;
  };
  scheduler.add(make(1, 0));
  scheduler.add(make(2, 5));
  scheduler.add(make(3, -5));
  scheduler.add(make(4, 0));
  std::vector<RequestId> order;
  while (!scheduler.idle()) {
    scheduler.plan();
    ASSERT_EQ(scheduler.planned().size(), 1u);
    if (order.empty() || order.back() != scheduler.planned()[0]) order.push_back(scheduler.planned()[0]);
    scheduler.commit(answer(scheduler.planned_step()));
  }
  EXPECT_THAT(order, ElementsAre(3, 1, 4, 2));
}

TEST(Scheduler, NobodyOvertakesTheFirstThatWaitsForBlocks) {
  BlockPool pool(4);
  Scheduler scheduler({64, 8}, &pool);
  scheduler.add(request(1, 16, 16));  // 1 block
  scheduler.add(request(2, 50, 14));  // 4 blocks: must wait
  scheduler.add(request(3, 8, 8));    // 1 block: would fit
  scheduler.plan();
  EXPECT_THAT(scheduler.planned(), ElementsAre(1));
  EXPECT_EQ(scheduler.waiting(), 2);
  scheduler.commit(answer(scheduler.planned_step()));
  EXPECT_TRUE(scheduler.cancel(1));
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("0+50[0 1 2 3]"));
}

TEST(Scheduler, WhoHasWaitedLongGoesBeforeWhoIsUrgent) {
  BlockPool pool(4);
  Scheduler scheduler({64, 1}, &pool);
  scheduler.add(request(9, 16, 8));
  auto patient = request(1, 16, 1);
  patient.priority = 10;
  scheduler.add(patient);
  scheduler.plan({.now_ms = 1000.0});
  EXPECT_THAT(scheduler.planned(), ElementsAre(9));
  scheduler.commit(answer(scheduler.planned_step()));
  ASSERT_TRUE(scheduler.cancel(9));
  for (RequestId id = 2; id <= 3; ++id) {
    auto urgent = request(id, 16, 1);
    urgent.priority = -10;
    scheduler.add(urgent);
  }
  scheduler.plan({.now_ms = 1000.0 + kLongestWaitMs - 1.0});
  EXPECT_THAT(scheduler.planned(), ElementsAre(2));
  scheduler.commit(answer(scheduler.planned_step()));
  scheduler.plan({.now_ms = 1000.0 + kLongestWaitMs});
  EXPECT_THAT(scheduler.planned(), ElementsAre(1));
}

// Nobody has waited while nothing was planned.
TEST(Scheduler, AnIdleTimeIsNoWait) {
  BlockPool pool(4);
  Scheduler scheduler({64, 1}, &pool);
  scheduler.plan({.now_ms = 1000.0});
  scheduler.add(request(1, 16, 1));
  auto urgent = request(2, 16, 1);
  urgent.priority = -10;
  scheduler.add(urgent);
  scheduler.plan({.now_ms = 1000.0 + 2.0 * kLongestWaitMs});
  EXPECT_THAT(scheduler.planned(), ElementsAre(2));
}

// 0.5 ms a row: what the scheduler has learnt when it is asked.
void teach(Scheduler* scheduler) {
  RequestId id = 1000;
  for (const int rows : {1, 16, 32, 64, 128, 256, 256}) {
    auto lesson = request(id++, rows, 1);
    lesson.prompt = prompt_of(rows, static_cast<TokenId>(id));
    scheduler->add(lesson);
    const StepPlan& plan = scheduler->plan();
    scheduler->measured(0.5 * static_cast<double>(plan.tokens.size()));
    scheduler->commit(answer(plan));
  }
}

TEST(Scheduler, AStepTakesTheMillisecondsItMay) {
  BlockPool pool(64);
  Scheduler scheduler({256, 8}, &pool);
  teach(&scheduler);
  ASSERT_TRUE(scheduler.idle());
  scheduler.add(request(1, 200, 8));
  scheduler.add(request(2, 200, 8));
  const StepTime budget{.alone_ms = 60.0, .beside_ms = 25.0, .beside_decode = 3.0};
  scheduler.plan(budget);  // 120 rows
  EXPECT_EQ(scheduler.planned_step().tokens.size(), 112u);
  scheduler.commit(answer(scheduler.planned_step()));
  scheduler.plan(budget);  // the rest of the first, and 32 of the second
  EXPECT_EQ(scheduler.planned_step().slices[0].rows, 88);
  EXPECT_EQ(scheduler.planned_step().slices[1].rows, 16);
  scheduler.commit(answer(scheduler.planned_step()));
  scheduler.plan(budget);  // beside a decoding row: 25 ms are 50 rows
  EXPECT_EQ(scheduler.planned_step().slices[0].rows, 1);
  EXPECT_EQ(scheduler.planned_step().slices[1].rows, 48);
}

TEST(Scheduler, AStepTakesLongerWhileMoreWaitForTheirFirstTokenThanDecode) {
  BlockPool pool(64);
  Scheduler scheduler({256, 8}, &pool);
  teach(&scheduler);
  const StepTime budget{.beside_ms = 20.0, .crowded_ms = 50.0, .beside_decode = 0.0};  // half a millisecond a row
  const auto prompt_rows = [&] {
    const int rows = scheduler.plan(budget).slices.back().rows;
    scheduler.commit(answer(scheduler.planned_step()));
    return rows;
  };
  scheduler.add(request(1, 16, 8));
  scheduler.plan();
  scheduler.commit(answer(scheduler.planned_step()));
  scheduler.add(request(2, 150, 8));
  EXPECT_EQ(prompt_rows(), 32);  // one beside one: 20 ms
  scheduler.add(request(3, 150, 8));
  EXPECT_EQ(prompt_rows(), 64);  // two: 40 ms
  scheduler.add(request(4, 150, 8));
  scheduler.plan(budget);  // three would be 60
  EXPECT_EQ(scheduler.planned_step().tokens.size(), 1u + 54u + 32u);
}

TEST(Scheduler, SomePromptGetsOnHoweverLongItTakes) {
  BlockPool pool(64);
  Scheduler scheduler({256, 8}, &pool);
  teach(&scheduler);
  scheduler.add(request(1, 16, 8));
  scheduler.commit(answer(scheduler.plan()));
  scheduler.add(request(2, 200, 8));
  scheduler.plan({.beside_ms = 0.1, .beside_decode = 0.0});
  EXPECT_EQ(scheduler.planned_step().slices[1].rows, 16);
}

TEST(Scheduler, RefusesWhatAnEmptyPoolCanNotHold) {
  BlockPool pool(2);
  Scheduler scheduler({64, 8}, &pool);
  scheduler.add(request(1, 16, 16));
  try {
    scheduler.add(request(2, 20, 13));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::request_cannot_fit);
    EXPECT_THAT(error.message(), HasSubstr("33 tokens"));
    EXPECT_THAT(error.message(), HasSubstr("holds 32"));
  }
}

TEST(Scheduler, WhatMayShrinkTakesTheRoomThereIs) {
  BlockPool pool(2);
  for (const auto& [prompt, asked, given] : {std::tuple(20, 500, 12), std::tuple(20, 5, 5), std::tuple(31, 9, 1)}) {
    Scheduler scheduler({64, 8}, &pool);
    auto shrinking = request(1, prompt, asked);
    shrinking.max_tokens_may_shrink = true;
    scheduler.add(shrinking);
    int tokens = 0;
    for (; !scheduler.idle(); ++tokens) scheduler.commit(answer(scheduler.plan()));
    EXPECT_EQ(tokens, given);
  }
  Scheduler scheduler({64, 8}, &pool);
  auto whole = request(1, 32, 9);
  whole.max_tokens_may_shrink = true;
  EXPECT_THROW(scheduler.add(whole), Error);
}

TEST(Scheduler, RunsNoMoreThanItMay) {
  BlockPool pool(64);
  Scheduler scheduler({18, 2}, &pool);
  for (RequestId id = 1; id <= 3; ++id) scheduler.add(request(id, 4, 2));
  scheduler.plan();
  EXPECT_THAT(scheduler.planned(), ElementsAre(1, 2));
  EXPECT_EQ(scheduler.waiting(), 1);
  EXPECT_THROW(Scheduler({17, 2}, &pool), Error);
  EXPECT_THROW(Scheduler({17, 0}, &pool), Error);
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

TEST(Scheduler, ScoresAPromptInChunksWithoutSampling) {
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

TEST(Scheduler, ScoresComeBeforeTheFirstToken) {
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

TEST(Scheduler, APromptsAlternativesComeWithItsScores) {
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

TEST(Scheduler, AOneTokenPromptIsScoredByNothing) {
  BlockPool pool(8);
  Scheduler scheduler({24, 8}, &pool);
  auto scoring = request(1, 1, 0);
  scoring.prompt_logprobs = true;
  scheduler.add(scoring);
  const auto events = scheduler.commit(answer(scheduler.plan()));
  EXPECT_TRUE(events[0].event.prompt_logprobs.empty());
  EXPECT_EQ(events[0].event.finish, FinishReason::length);
}

TextSequence text(RequestId id, std::size_t index, int tokens, std::span<const TokenId> scores = {}) {
  return {id, index, prompt_of(tokens, static_cast<TokenId>(1000 * id + 100 * index)), scores, 0, {}};
}

TEST(Scheduler, ATextSamplesNothingAndGivesItsLastRow) {
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

TEST(Scheduler, ATextIsCutIntoChunksLikeAnyPrompt) {
  BlockPool pool(8);
  Scheduler scheduler({24, 8}, &pool);
  scheduler.add(text(1, 0, 40));
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("0+16[0 1 2]"));
  EXPECT_TRUE(scheduler.planned_step().wanted.empty());
  EXPECT_TRUE(scheduler.commit(answer(scheduler.planned_step())).empty());
  EXPECT_THAT(slices_of(scheduler.plan()), ElementsAre("16+24[0 1 2]"));
  EXPECT_EQ(scheduler.commit(answer(scheduler.planned_step())).size(), 1u);
}

TEST(Scheduler, CancelTakesAllTextsOfARequest) {
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

TEST(Scheduler, ATextThatThePoolCanNeverHoldIsRefused) {
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

TEST(Scheduler, NoneStartsWhileAsManyRunAsMay) {
  BlockPool pool(16);
  Scheduler scheduler({256, 8}, &pool);
  for (RequestId id = 1; id <= 3; ++id) scheduler.add(request(id, 20, 4));
  scheduler.plan({.most_sequences = 2});
  EXPECT_THAT(scheduler.planned(), ElementsAre(1, 2));
  scheduler.commit(answer(scheduler.planned_step()));
  scheduler.plan({.most_sequences = 1});  // those that run go on
  EXPECT_THAT(scheduler.planned(), ElementsAre(1, 2));
  scheduler.commit(answer(scheduler.planned_step()));
  scheduler.plan();
  EXPECT_THAT(scheduler.planned(), ElementsAre(1, 2, 3));
}

TEST(Scheduler, StopsTheLeastUrgentAboveSoManyAndTheyGoOnLater) {
  BlockPool pool(16);
  Scheduler scheduler({256, 8}, &pool);
  for (RequestId id = 1; id <= 4; ++id) {
    GenerateRequest made = request(id, 20, 4);
    made.priority = id == 4 ? -1 : 0;
    scheduler.add(made);
  }
  EXPECT_EQ(scheduler.preempt_above(2), 0);  // none runs
  scheduler.commit(answer(scheduler.plan()));
  EXPECT_EQ(scheduler.preempt_above(4), 0);
  EXPECT_EQ(scheduler.preempt_above(2), 2);
  EXPECT_EQ(scheduler.kv_status().preemptions, 2u);
  EXPECT_EQ(scheduler.waiting(), 2);
  scheduler.plan({.most_sequences = 2});
  EXPECT_THAT(scheduler.planned(), ElementsAre(1, 4));
  EXPECT_EQ(pool.used_blocks(), 4);
  scheduler.commit(answer(scheduler.planned_step()));
  // What they had computed is found again: a block of each.
  EXPECT_THAT(slices_of(scheduler.plan()), testing::Contains(HasSubstr("16+5[")).Times(2));
  scheduler.fail_step();
  EXPECT_EQ(pool.used_blocks(), 0);
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

TEST(Scheduler, ARowThatIsNotFiniteFailsItsSequenceOnly) {
  BlockPool pool(8);
  Scheduler scheduler({64, 8}, &pool);
  scheduler.add(request(1, 3, 5));
  scheduler.add(request(2, 3, 5));
  StepResult result = answer(scheduler.plan());
  result.rows[0].finite = false;
  const auto events = scheduler.commit(result);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].event.error->code(), ErrorCode::numerical_error);
  EXPECT_THAT(events[0].event.error->message(), HasSubstr("position 3"));
  EXPECT_EQ(events[1].event.tokens.size(), 1u);
  EXPECT_EQ(scheduler.running(), 1);
  EXPECT_EQ(pool.used_blocks(), 1);
}

TEST(Scheduler, AFailedStepFailsItsSequencesOnly) {
  BlockPool pool(2);
  Scheduler scheduler({64, 8}, &pool);
  scheduler.add(request(1, 16, 16));
  scheduler.add(request(2, 16, 16));
  scheduler.plan();
  EXPECT_TRUE(scheduler.in_step());
  scheduler.fail_step();
  EXPECT_FALSE(scheduler.in_step());
  EXPECT_THAT(scheduler.planned(), ElementsAre(1));
  EXPECT_EQ(pool.used_blocks(), 0);
  scheduler.plan();
  EXPECT_THAT(scheduler.planned(), ElementsAre(2));
}

// Three sequences, of which two end with this step, one of them the first. The planned step is not computed yet.
void plan_three(Scheduler* scheduler) {
  scheduler->add(request(1, 3, 1));
  auto penalised = request(2, 20, 9);
  penalised.sampling.presence_penalty = 1.0f;
  penalised.prompt_logprobs = true;
  scheduler->add(penalised);
  scheduler->add(request(3, 3, 1));
}

TEST(Scheduler, ACommitThatRunsOutOfMemoryCanBeFailedWhole) {
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    BlockPool pool(8);
    Scheduler scheduler({64, 8}, &pool);
    plan_three(&scheduler);
    const StepResult result = answer(scheduler.plan());
    ASSERT_EQ(scheduler.planned().size(), 3u);
    fail_allocation_after(failures);
    try {
      const auto events = scheduler.commit(result);
      failed = allow_allocations();
      ASSERT_FALSE(failed);
      EXPECT_EQ(events.size(), 3u);
      EXPECT_EQ(scheduler.running(), 1);
    } catch (const std::bad_alloc&) {
      fail_every_allocation();  // failing it needs no memory
      scheduler.fail_step();
      allow_allocations();
      EXPECT_THAT(scheduler.planned(), ElementsAre(1, 2, 3));
      EXPECT_TRUE(scheduler.idle());
      EXPECT_EQ(pool.used_blocks(), 0);
    }
  }
  EXPECT_GT(failures, 4);
}

TEST(Scheduler, APlanThatRunsOutOfMemoryLosesNoBlock) {
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    BlockPool pool(8);
    Scheduler scheduler({64, 8}, &pool);
    plan_three(&scheduler);
    fail_allocation_after(failures);
    try {
      scheduler.plan();
      failed = allow_allocations();
      ASSERT_FALSE(failed);
    } catch (const std::bad_alloc&) {
      EXPECT_TRUE(failed);
    }
    scheduler.fail_step();
    std::vector<RequestId> ended(scheduler.planned().begin(), scheduler.planned().end());
    for (RequestId id = 1; id <= 3; ++id) {
      if (scheduler.cancel(id)) ended.push_back(id);
    }
    EXPECT_THAT(ended, testing::UnorderedElementsAre(1, 2, 3));
    EXPECT_TRUE(scheduler.idle());
    EXPECT_EQ(pool.used_blocks(), 0);
  }
  EXPECT_GT(failures, 4);
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
