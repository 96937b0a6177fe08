#include "engine/encode_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/failing_allocation.h"

namespace cortex {
namespace {

using testing::ElementsAre;

EncodeRequest job(RequestId id, std::vector<int> lengths, int priority = 0) {
  EncodeRequest request;
  request.id = id;
  request.priority = priority;
  TokenId token = static_cast<TokenId>(id) * 100;
  for (const int length : lengths) request.texts.emplace_back(static_cast<std::size_t>(length), token++);
  return request;
}

// Two dimensions a text: its first token and its length.
EncodeResult answer(const PackedTexts& batch) {
  EncodeResult result;
  result.dimensions = 2;
  for (std::size_t i = 0; i + 1 < batch.starts.size(); ++i) {
    result.pooled.push_back(static_cast<float>(batch.tokens[static_cast<std::size_t>(batch.starts[i])]));
    result.pooled.push_back(static_cast<float>(batch.starts[i + 1] - batch.starts[i]));
  }
  return result;
}

TEST(EncodeQueue, SplitsAJobByTokens) {
  EncodeQueue queue(10);
  queue.add(job(1, {4, 5, 2, 12, 3}));
  EXPECT_THAT(queue.plan().starts, ElementsAre(0, 4, 9));
  EXPECT_TRUE(queue.commit(answer(queue.planned_batch())).empty());
  EXPECT_THAT(queue.plan().starts, ElementsAre(0, 2));
  EXPECT_TRUE(queue.commit(answer(queue.planned_batch())).empty());
  EXPECT_THAT(queue.plan().starts, ElementsAre(0, 12));  // longer than the budget: alone
  EXPECT_TRUE(queue.commit(answer(queue.planned_batch())).empty());
  EXPECT_THAT(queue.plan().starts, ElementsAre(0, 3));
  const auto over = queue.commit(answer(queue.planned_batch()));
  ASSERT_EQ(over.size(), 1u);
  EXPECT_EQ(over[0].id, 1u);
  EXPECT_EQ(over[0].reply.dimensions, 2);
  EXPECT_THAT(over[0].reply.vectors, ElementsAre(100, 4, 101, 5, 102, 2, 103, 12, 104, 3));
  EXPECT_TRUE(queue.idle());
  EXPECT_TRUE(queue.plan().tokens.empty());
}

TEST(EncodeQueue, PacksSeveralJobsIntoABatch) {
  EncodeQueue queue(10);
  queue.add(job(1, {3}));
  queue.add(job(2, {4, 2}));
  queue.add(job(3, {5}));
  EXPECT_THAT(queue.plan().starts, ElementsAre(0, 3, 7, 9));
  EXPECT_THAT(queue.planned(), ElementsAre(1, 2));
  const auto over = queue.commit(answer(queue.planned_batch()));
  ASSERT_EQ(over.size(), 2u);
  EXPECT_THAT(over[0].reply.vectors, ElementsAre(100, 3));
  EXPECT_THAT(over[1].reply.vectors, ElementsAre(200, 4, 201, 2));
}

TEST(EncodeQueue, ALargeJobAndSmallOnesTakeTurns) {
  EncodeQueue queue(10);
  queue.add(job(1, {10, 10, 10}));
  EXPECT_TRUE(queue.commit(answer(queue.plan())).empty());
  queue.add(job(2, {6}));
  queue.add(job(3, {6}));
  queue.plan();
  // The large one had its turn before they came: its next turn comes after theirs.
  EXPECT_THAT(queue.planned(), ElementsAre(1));
  queue.commit(answer(queue.planned_batch()));
  queue.plan();
  EXPECT_THAT(queue.planned(), ElementsAre(2));
  queue.commit(answer(queue.planned_batch()));
  queue.plan();
  EXPECT_THAT(queue.planned(), ElementsAre(3));
  queue.commit(answer(queue.planned_batch()));
  queue.plan();
  EXPECT_THAT(queue.planned(), ElementsAre(1));
}

TEST(EncodeQueue, LowerPriorityNumbersGoFirst) {
  EncodeQueue queue(4);
  queue.add(job(1, {4}, 1));
  queue.add(job(2, {4}, -1));
  queue.plan();
  EXPECT_THAT(queue.planned(), ElementsAre(2));
}

TEST(EncodeQueue, CapsItsBatches) {
  EXPECT_NO_THROW(EncodeQueue{kMostBatchTokens});
  for (const int batch_tokens : {0, -1, kMostBatchTokens + 1, std::numeric_limits<int>::max()}) {
    EXPECT_THROW(EncodeQueue{batch_tokens}, Error) << batch_tokens;
  }
}

TEST(EncodeQueue, CarriesTokenTypes) {
  EncodeQueue queue(100);
  auto pair = job(1, {3});
  pair.types = {{0, 1, 1}};
  queue.add(pair);
  queue.add(job(2, {2}));
  EXPECT_THAT(queue.plan().types, ElementsAre(0, 1, 1, 0, 0));
}

TEST(EncodeQueue, AVectorThatIsNotFiniteFailsItsJobOnly) {
  EncodeQueue queue(100);
  queue.add(job(1, {3, 3}));
  queue.add(job(2, {3}));
  EncodeResult result = answer(queue.plan());
  result.pooled[1] = std::numeric_limits<float>::quiet_NaN();
  const auto over = queue.commit(result);
  ASSERT_EQ(over.size(), 2u);
  EXPECT_EQ(over[0].reply.error->code(), ErrorCode::numerical_error);
  EXPECT_TRUE(over[0].reply.vectors.empty());
  EXPECT_FALSE(over[1].reply.error);
}

TEST(EncodeQueue, AFailedBatchFailsItsJobsOnly) {
  EncodeQueue queue(4);
  queue.add(job(1, {4}));
  queue.add(job(2, {4}));
  queue.plan();
  EXPECT_TRUE(queue.in_batch());
  queue.fail_batch();
  EXPECT_FALSE(queue.in_batch());
  EXPECT_THAT(queue.planned(), ElementsAre(1));
  queue.plan();
  EXPECT_THAT(queue.planned(), ElementsAre(2));
}

TEST(EncodeQueue, ABatchThatRunsOutOfMemoryCanBeFailedWhole) {
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    EncodeQueue queue(9);
    for (RequestId id = 1; id <= 3; ++id) queue.add(job(id, {3}));
    const std::vector<float> pooled(6, 1.0f);
    fail_allocation_after(failures);
    try {
      queue.plan();
      const auto over = queue.commit({2, pooled, {}});
      failed = allow_allocations();
      ASSERT_FALSE(failed);
      EXPECT_EQ(over.size(), 3u);
    } catch (const std::bad_alloc&) {
      fail_every_allocation();  // failing it needs no memory
      queue.fail_batch();
      allow_allocations();
      std::vector<RequestId> ended(queue.planned().begin(), queue.planned().end());
      for (RequestId id = 1; id <= 3; ++id) {
        if (queue.cancel(id)) ended.push_back(id);
      }
      EXPECT_THAT(ended, ElementsAre(1, 2, 3));
    }
    EXPECT_TRUE(queue.idle());
  }
  EXPECT_GT(failures, 4);
}

TEST(EncodeQueue, CancelsBetweenBatches) {
  EncodeQueue queue(4);
  queue.add(job(1, {4, 4}));
  queue.commit(answer(queue.plan()));
  EXPECT_TRUE(queue.cancel(1));
  EXPECT_FALSE(queue.cancel(1));
  EXPECT_TRUE(queue.idle());
}

}  // namespace
}  // namespace cortex
