// A fixed number of threads that work on one thing together: the caller is the first of them. Work is cut into parts,
// and whoever is free takes the next one, so that a thread the system has put aside holds up no more than the part it
// has in hand. The others sleep between steps, and spin for some tens of microseconds between the calls of one. None is
// bound to a core: alone that gains nothing, and beside other programs it costs a tenth. One caller at a time, the
// engine thread; the destructor joins.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/function_ref.h"

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

  // Threads of a team that is asked for so many.
  static int size_of(int threads);
  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls body(part) once for each part in 0..parts-1, on any of the threads, and waits for all. Throws what one of
  // them threw.
  void run(int parts, FunctionRef<int> body);

  // Calls body(begin, end) for contiguous parts of [0, items). What is computed of an item must not depend on the part
  // it is in.
  void parallel_for(int items, FunctionRef<int, int> body);

  // Calls body(row) for each: light work, so that a few rows are cheaper than waking anybody.
  void for_rows(int rows, FunctionRef<int> body);

 private:
  static std::thread start_thread(std::function<void()> body) { return std::thread(std::move(body)); }
  void stop();
  void serve();
  void work();

  std::vector<std::thread> threads_;
  std::atomic<std::uint32_t> generation_{0};  // counts runs; a change starts one
  std::atomic<std::uint32_t> untaken_{0};     // parts; body_ and parts_ hold still for whoever takes one
  std::atomic<std::uint32_t> unfinished_{0};  // parts
  std::atomic<bool> stopping_{false};
  const FunctionRef<int>* body_ = nullptr;
  std::uint32_t parts_ = 0;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
};

}  // namespace cortex
