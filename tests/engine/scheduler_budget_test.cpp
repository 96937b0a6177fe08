// How much a step takes, and how many may run, under a budget.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/planned_steps.h"
#include "engine/scheduler.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Cost {
  double fixed_ms = 0.0, row_ms = 0.5;
};

// What the scheduler has learnt when it is asked.
void teach(Scheduler* scheduler, Cost cost = {}) {
  RequestId id = 1000;
  for (const int rows : {1, 16, 32, 64, 128, 256, 256}) {
    auto lesson = request(id++, rows, 1);
    lesson.prompt = prompt_of(rows, static_cast<TokenId>(id));
    scheduler->add(lesson);
    const StepPlan& plan = scheduler->plan();
    scheduler->measured(cost.fixed_ms + cost.row_ms * static_cast<double>(plan.tokens.size()));
    scheduler->commit(answer(plan));
  }
}

TEST(SchedulerBudget, AStepTakesTheMillisecondsItMay) {
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

TEST(SchedulerBudget, AStepTakesLongerWhileMoreWaitForTheirFirstTokenThanDecode) {
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

TEST(SchedulerBudget, SomePromptGetsOnHoweverLongItTakes) {
  BlockPool pool(64);
  Scheduler scheduler({256, 8}, &pool);
  teach(&scheduler);
  scheduler.add(request(1, 16, 8));
  scheduler.commit(answer(scheduler.plan()));
  scheduler.add(request(2, 200, 8));
  scheduler.plan({.beside_ms = 0.1, .beside_decode = 0.0});
  EXPECT_EQ(scheduler.planned_step().slices[1].rows, 16);
}

TEST(SchedulerBudget, APromptIsNotCutIntoStepsThatCostMoreThanTheirRows) {
  BlockPool pool(64);
  Scheduler scheduler({256, 8}, &pool);
  teach(&scheduler, {.fixed_ms = 300.0, .row_ms = 0.5});
  scheduler.add(request(1, 500, 8));
  scheduler.plan();  // more than fit at all
  EXPECT_EQ(scheduler.planned_step().tokens.size(), 256u);
  scheduler.fail_step();

  scheduler.add(request(2, 500, 8));
  scheduler.plan({.alone_ms = 10.0, .alone_fixed = 1.25});  // 375 ms are 150 rows
  EXPECT_EQ(scheduler.planned_step().tokens.size(), 144u);
}

TEST(SchedulerBudget, NoneStartsWhileAsManyRunAsMay) {
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

TEST(SchedulerBudget, StopsTheLeastUrgentAboveSoManyAndTheyGoOnLater) {
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

}  // namespace
}  // namespace cortex
