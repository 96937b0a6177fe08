#include "base/thread_pool.h"

#include <exception>
#include <string>
#include <utility>

#include "base/log.h"

namespace cortex {

ThreadPool::ThreadPool(std::size_t threads) {
  threads_.reserve(threads);
  for (std::size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { run(); });
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::run() {
  while (auto job = jobs_.receive()) {
    try {
      (*job)();
    } catch (const std::exception& error) {
      log_error(std::string("a job threw: ") + error.what());
    }
  }
}

void ThreadPool::stop() {
  jobs_.close();
  while (jobs_.try_receive()) {
  }
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

bool ThreadPool::submit(Job job) { return jobs_.send(std::move(job)); }

}  // namespace cortex
