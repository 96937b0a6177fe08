// A fixed number of threads that run jobs in the order they came: the front's text work (tokenizing, templates, JSON).
// A job that throws is a line in the log. Any thread may submit.
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
  ~ThreadPool();  // as stop()
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // False, and the job untouched by anybody, once the pool is stopping.
  bool submit(Job job);

  // Waits for the jobs that run and drops those that have not begun. Not from a job.
  void stop();

 private:
  void run();

  Channel<Job> jobs_;
  std::vector<std::thread> threads_;
};

}  // namespace cortex
