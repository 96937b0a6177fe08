#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>

namespace cortex {
namespace {

TEST(ThreadPool, RunsEveryAcceptedJobBeforeItEnds) {
  std::atomic<int> ran = 0;
  {
    ThreadPool pool(3);
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(pool.submit([&] { ++ran; }));
  }
  EXPECT_EQ(ran, 100);
}

TEST(ThreadPool, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  {
    ThreadPool pool(1);
    for (int i = 0; i < 10; ++i) pool.submit([&order, i] { order.push_back(i); });
  }
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

}  // namespace
}  // namespace cortex
