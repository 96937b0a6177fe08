#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace cortex {
namespace {

TEST(ThreadPool, RunsEveryJob) {
  ThreadPool pool(3);
  std::latch done(100);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(pool.submit([&] { done.count_down(); }));
  done.wait();
}

TEST(ThreadPool, OneThreadKeepsTheOrder) {
  ThreadPool pool(1);
  std::vector<int> order;
  std::latch done(10);
  for (int i = 0; i < 10; ++i) {
    pool.submit([&order, &done, i] {
      order.push_back(i);
      done.count_down();
    });
  }
  done.wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(ThreadPool, StoppingWaitsForWhatRunsAndDropsTheRest) {
  ThreadPool pool(1);
  std::latch begun(1);
  std::latch may_end(1);
  std::atomic<int> ran = 0;
  auto dropped = std::make_shared<int>();
  pool.submit([&] {
    begun.count_down();
    may_end.wait();
    ++ran;
  });
  pool.submit([&ran, dropped] { ++ran; });
  begun.wait();
  std::thread stopper([&] { pool.stop(); });
  while (pool.submit([] {})) std::this_thread::yield();
  may_end.count_down();
  stopper.join();
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(dropped.use_count(), 1);  // its job is gone, with all that it held
}

TEST(ThreadPool, AJobThatThrowsHarmsNoOther) {
  ThreadPool pool(1);
  std::latch done(1);
  pool.submit([] { throw std::runtime_error("a bug"); });
  pool.submit([&] { done.count_down(); });
  done.wait();
}

}  // namespace
}  // namespace cortex
