#include "engine/text_sequences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/error.h"
#include "engine/failing_allocation.h"

namespace cortex {
namespace {

using testing::ElementsAre;

EncodeRequest job(RequestId id, const std::vector<int>& lengths, std::vector<TokenId> scores = {}) {
  EncodeRequest request;
  request.id = id;
  TokenId token = static_cast<TokenId>(id) * 100;
  for (const int length : lengths) request.texts.emplace_back(static_cast<std::size_t>(length), token++);
  request.scores = std::move(scores);
  return request;
}

// The state is the text's token and the row's position; a score is minus the text's token.
StepResult answer(const StepPlan& plan) {
  StepResult result;
  for (const SequenceSlice& slice : plan.slices) {
    for (const WantedRow& wanted : plan.wanted) {
      if (wanted.row < slice.first_row || wanted.row >= slice.first_row + slice.rows) continue;
      const auto token = static_cast<float>(plan.tokens[static_cast<std::size_t>(wanted.row)]);
      RowResult row;
      row.scores.assign(wanted.scores.size(), -token);
      if (wanted.hidden) row.hidden = {token, static_cast<float>(slice.start + wanted.row - slice.first_row)};
      result.rows.push_back(row);
    }
  }
  return result;
}

class TextSequencesTest : public testing::Test {
 protected:
  // One step; the requests that it ended.
  std::vector<EncodeEvent> step() {
    std::vector<EncodeEvent> over;
    for (SequenceEvent& event : scheduler_.commit(answer(scheduler_.plan()))) {
      if (auto reply = texts_.take(std::move(event))) over.push_back(std::move(*reply));
    }
    return over;
  }

  BlockPool pool_{8};
  Scheduler scheduler_{{24, 8}, &pool_};
  TextSequences texts_{&scheduler_, 24};
};

TEST_F(TextSequencesTest, GathersTheRowsOfAllTextsInOrder) {
  texts_.add(job(1, {30, 4, 2}));
  EXPECT_EQ(scheduler_.waiting(), 1);  // it fills a step, the others wait outside
  std::vector<EncodeEvent> over;
  int steps = 0;
  for (; over.empty(); ++steps) {
    ASSERT_LT(steps, 4);
    over = step();
  }
  ASSERT_EQ(over.size(), 1u);
  EXPECT_EQ(over[0].id, 1u);
  EXPECT_EQ(over[0].reply.dimensions, 2);
  EXPECT_THAT(over[0].reply.vectors, ElementsAre(100, 29, 101, 3, 102, 1));
  EXPECT_EQ(texts_.requests(), 0);
  EXPECT_EQ(pool_.used_blocks(), 0);
}

TEST_F(TextSequencesTest, GathersScores) {
  texts_.add(job(2, {3, 4}, {7, 8, 9}));
  const auto over = step();
  ASSERT_EQ(over.size(), 1u);
  EXPECT_EQ(over[0].reply.dimensions, 3);
  EXPECT_THAT(over[0].reply.vectors, ElementsAre(-200, -200, -200, -201, -201, -201));
}

TEST_F(TextSequencesTest, KeepsAStepFullAndNoMore) {
  texts_.add(job(1, std::vector<int>(20, 10)));
  EXPECT_EQ(scheduler_.waiting(), 3);  // 30 tokens for a step of 24
  step();
  EXPECT_EQ(scheduler_.waiting() + scheduler_.running(), 3);
}

TEST_F(TextSequencesTest, WhatComesMeanwhileStartsBeforeTheRest) {
  texts_.add(job(1, std::vector<int>(20, 10)));
  step();
  GenerateRequest chat;
  chat.id = 2;
  chat.prompt = {1, 2, 3};
  chat.max_tokens = 0;
  scheduler_.add(chat);
  for (int steps = 0; steps < 2; ++steps) {
    scheduler_.plan();
    const auto planned = scheduler_.planned();
    const bool started = std::ranges::find(planned, RequestId{2}) != planned.end();
    for (SequenceEvent& event : scheduler_.commit(answer(scheduler_.planned_step()))) {
      if (event.text) texts_.take(std::move(event));
    }
    if (started) return;
  }
  FAIL() << "it waits for all of them";
}

TEST_F(TextSequencesTest, ABrokenTextEndsItsRequestAndItsSequences) {
  texts_.add(job(1, {4, 4, 30}));
  texts_.add(job(2, {4}));
  StepResult result = answer(scheduler_.plan());
  result.rows[0].finite = false;
  auto events = scheduler_.commit(result);
  ASSERT_GE(events.size(), 2u);
  const auto broken = texts_.take(std::move(events[0]));
  ASSERT_TRUE(broken);
  EXPECT_EQ(broken->reply.error->code(), ErrorCode::numerical_error);
  EXPECT_FALSE(texts_.take(std::move(events[1])));  // of the same request, which is over
  EXPECT_EQ(texts_.requests(), 1);
  EXPECT_THAT(step(), testing::SizeIs(1));
  EXPECT_TRUE(scheduler_.idle());
  EXPECT_EQ(pool_.used_blocks(), 0);
}

TEST_F(TextSequencesTest, ARowThatIsNotFiniteIsNoReply) {
  texts_.add(job(1, {4}));
  StepResult result = answer(scheduler_.plan());
  result.rows[0].hidden[1] = std::numeric_limits<float>::infinity();
  auto events = scheduler_.commit(result);
  EXPECT_EQ(texts_.take(std::move(events.at(0)))->reply.error->code(), ErrorCode::numerical_error);
}

TEST_F(TextSequencesTest, CancelLeavesNothingBehind) {
  texts_.add(job(1, std::vector<int>(20, 40)));
  step();
  EXPECT_GT(pool_.used_blocks(), 0);
  EXPECT_TRUE(texts_.cancel(1));
  EXPECT_FALSE(texts_.cancel(1));
  EXPECT_TRUE(scheduler_.idle());
  EXPECT_EQ(pool_.used_blocks(), 0);
}

TEST_F(TextSequencesTest, ARequestWithATextThatNeverFitsIsRefusedWhole) {
  try {
    texts_.add(job(1, {4, 8 * kBlockTokens + 1}));
    FAIL() << "was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::request_cannot_fit);
  }
  EXPECT_EQ(texts_.requests(), 0);
  EXPECT_TRUE(scheduler_.idle());
}

TEST_F(TextSequencesTest, WithoutMemoryARequestIsRefusedOrEndedWhole) {
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    EncodeRequest request = job(1, {10, 10, 10, 10});
    fail_allocation_after(failures);
    try {
      texts_.add(std::move(request));
      failed = allow_allocations();
    } catch (const std::bad_alloc&) {
      allow_allocations();
      EXPECT_EQ(texts_.requests(), 0);
      EXPECT_TRUE(scheduler_.idle());
    }
  }
  EXPECT_GT(failures, 2);
  texts_.cancel(1);
}

TEST_F(TextSequencesTest, RandomTrafficKeepsTheInvariants) {
  std::mt19937 random(7);
  RequestId next = 1;
  std::map<RequestId, std::vector<int>> open;
  for (int turn = 0; turn < 3000; ++turn) {
    if (turn < 2000 && random() % 8 == 0) {
      std::vector<int> lengths(1 + random() % 9);
      for (int& length : lengths) length = 1 + static_cast<int>(random() % 60);
      texts_.add(job(next, lengths));
      open[next++] = lengths;
    }
    if (random() % 20 == 0 && !open.empty()) {
      ASSERT_TRUE(texts_.cancel(open.begin()->first));
      open.erase(open.begin());
    }
    if (scheduler_.plan().slices.empty()) {
      ASSERT_TRUE(scheduler_.idle() && open.empty());
      continue;
    }
    for (SequenceEvent& event : scheduler_.commit(answer(scheduler_.planned_step()))) {
      const auto over = texts_.take(std::move(event));
      if (!over) continue;
      std::vector<float> expected;
      for (std::size_t i = 0; i < open.at(over->id).size(); ++i) {
        expected.push_back(static_cast<float>(over->id * 100 + i));
        expected.push_back(static_cast<float>(open[over->id][i] - 1));
      }
      ASSERT_EQ(over->reply.vectors, expected);
      open.erase(over->id);
    }
  }
  EXPECT_TRUE(open.empty());
  EXPECT_EQ(pool_.used_blocks(), 0);
}

}  // namespace
}  // namespace cortex
