// A fixed number of threads that run jobs in the order they came: the front's text work (tokenizing, templates, JSON).
// Jobs must not throw. Any thread may submit; the destructor runs what was accepted, then joins.
#pragma once

#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "base/channel.h"

namespace cortex {

class ThreadPool {
 public:
  using Job = std::function<void()>;

  explicit ThreadPool(std::size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // False once the pool is stopping.
  bool submit(Job job);

 private:
  Channel<Job> jobs_;
  std::vector<std::thread> threads_;
};

}  // namespace cortex
