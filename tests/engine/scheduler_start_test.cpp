// Who starts, in which order, and who has to wait.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/planned_steps.h"
#include "engine/scheduler.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(SchedulerStart, StartsByPriorityThenArrival) {
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

TEST(SchedulerStart, NobodyOvertakesTheFirstThatWaitsForBlocks) {
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

TEST(SchedulerStart, WhoHasWaitedLongGoesBeforeWhoIsUrgent) {
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
TEST(SchedulerStart, AnIdleTimeIsNoWait) {
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

TEST(SchedulerStart, RefusesWhatAnEmptyPoolCanNotHold) {
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

TEST(SchedulerStart, WhatMayShrinkTakesTheRoomThereIs) {
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

TEST(SchedulerStart, RunsNoMoreThanItMay) {
  BlockPool pool(64);
  Scheduler scheduler({18, 2}, &pool);
  for (RequestId id = 1; id <= 3; ++id) scheduler.add(request(id, 4, 2));
  scheduler.plan();
  EXPECT_THAT(scheduler.planned(), ElementsAre(1, 2));
  EXPECT_EQ(scheduler.waiting(), 1);
  EXPECT_THROW(Scheduler({17, 2}, &pool), Error);
  EXPECT_THROW(Scheduler({17, 0}, &pool), Error);
}

}  // namespace
}  // namespace cortex
