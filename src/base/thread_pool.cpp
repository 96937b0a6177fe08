#include "base/thread_pool.h"

#include <utility>

namespace cortex {

ThreadPool::ThreadPool(std::size_t threads) {
  threads_.reserve(threads);
  for (std::size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] {
      while (auto job = jobs_.receive()) (*job)();
    });
  }
}

ThreadPool::~ThreadPool() {
  jobs_.close();
  for (auto& thread : threads_) thread.join();
}

bool ThreadPool::submit(Job job) { return jobs_.send(std::move(job)); }

}  // namespace cortex
