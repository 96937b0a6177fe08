// Steps that fail, or run out of memory: who is lost, and who goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "engine/failing_allocation.h"
#include "engine/planned_steps.h"
#include "engine/scheduler.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(SchedulerFailure, ARowThatIsNotFiniteFailsItsSequenceOnly) {
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

TEST(SchedulerFailure, AFailedStepFailsItsSequencesOnly) {
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

TEST(SchedulerFailure, ACommitThatRunsOutOfMemoryFailsASequenceOrCanBeFailedWhole) {
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
      ASSERT_EQ(events.size(), 3u);
      const auto lost = std::ranges::count_if(events, [](const SequenceEvent& e) { return e.event.error.has_value(); });
      EXPECT_EQ(lost, failed ? 1 : 0);
      const bool goes_on = !events[1].event.error;
      EXPECT_EQ(scheduler.running(), goes_on ? 1 : 0);
      EXPECT_EQ(pool.used_blocks(), goes_on ? 2 : 0);
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

TEST(SchedulerFailure, APlanThatRunsOutOfMemoryLosesNoBlock) {
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

}  // namespace
}  // namespace cortex
