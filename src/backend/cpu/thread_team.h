// A fixed number of threads that work on one thing together: the caller is the first of them. They sleep between
// steps, and spin for some microseconds between the parts of one. One caller at a time, the engine thread; the
// destructor joins.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace cortex {

class ThreadTeam {
 public:
  using StartThread = std::function<std::thread(std::function<void()> body)>;

  // 0: one thread per core that this process may use. `start` stands for the system's own in tests. Throws Error
  // engine_unavailable when a thread can't be started; none is left behind.
  explicit ThreadTeam(int threads, const StartThread& start = start_thread);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls body(member) once for each member in 0..size()-1 and waits for all. Throws what one of them threw.
  void run(const std::function<void(int member)>& body);

  // Splits [0, items) into one contiguous part a thread. What a part computes must not depend on where it begins.
  void parallel_for(int items, const std::function<void(int begin, int end)>& body);

 private:
  static std::thread start_thread(std::function<void()> body) { return std::thread(std::move(body)); }
  void stop();
  void serve(int member);
  void work(int member);

  std::vector<std::thread> threads_;
  std::atomic<std::uint32_t> generation_{0};  // counts runs; a change starts one
  std::atomic<std::uint32_t> busy_{0};        // members still working, the caller apart
  std::atomic<bool> stopping_{false};
  const std::function<void(int)>* body_ = nullptr;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
};

}  // namespace cortex
