#include "backend/cpu/thread_team.h"

#include <fmt/core.h>

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <chrono>
#include <system_error>

#include "backend/cpu/flush_denormals.h"
#include "base/error.h"

namespace cortex {
namespace {

int usable_cores() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Few enough that taking them costs nothing beside a part, enough that the threads end nearly together.
constexpr int kPartsPerThread = 4;

constexpr int kFewRows = 4;

// What the caller does alone between two runs of a step takes less; waking a thread that sleeps takes longer than most
// runs of a step of one row.
constexpr std::chrono::microseconds kSpinTime{50};

void wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  constexpr int kLooks = 32;  // between two at the clock
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kLooks; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

int ThreadTeam::size_of(int threads) { return threads > 0 ? threads : usable_cores(); }

ThreadTeam::ThreadTeam(int threads, const StartThread& start) {
  const int size = size_of(threads);
  threads_.reserve(static_cast<std::size_t>(size) - 1);
  try {
    for (int member = 1; member < size; ++member) threads_.push_back(start([this] { serve(); }));
  } catch (const std::system_error& error) {
    stop();
    throw Error(ErrorCode::engine_unavailable,
                fmt::format("cpu backend: {} threads could not be started: {}", size, error.what()));
  } catch (...) {
    stop();
    throw;
  }
}

ThreadTeam::~ThreadTeam() { stop(); }

void ThreadTeam::stop() {
  stopping_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadTeam::run(int parts, FunctionRef<int> body) {
  body_ = &body;
  parts_ = static_cast<std::uint32_t>(parts);
  failure_ = nullptr;
  unfinished_.store(parts_, std::memory_order_relaxed);
  untaken_.store(parts_, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  work();
  for (std::uint32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire)) {
    wait_while(unfinished_, left);
  }
  if (failure_) std::rethrow_exception(failure_);
}

void ThreadTeam::parallel_for(int items, FunctionRef<int, int> body) {
  const int parts = size() == 1 ? 1 : std::min(items, size() * kPartsPerThread);
  if (parts <= 1) {
    if (items > 0) body(0, items);
    return;
  }
  run(parts, [&](int part) {
    const auto bound = [&](int at) { return static_cast<int>(static_cast<std::int64_t>(items) * at / parts); };
    body(bound(part), bound(part + 1));
  });
}

void ThreadTeam::for_rows(int rows, FunctionRef<int> body) {
  const auto run_of = [&](int begin, int end) {
    for (int row = begin; row < end; ++row) body(row);
  };
  if (rows <= kFewRows) return run_of(0, rows);
  parallel_for(rows, run_of);
}

void ThreadTeam::serve() {
  const FlushDenormals flush;
  std::uint32_t seen = 0;
  while (true) {
    wait_while(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_) return;
    work();
  }
}

// A thread that comes late finds nothing, or parts of a later run, which are as good: a run ends only when each part
// that was taken is finished, so what describes it is read after a part is taken.
void ThreadTeam::work() {
  std::uint32_t untaken = untaken_.load(std::memory_order_acquire);
  while (untaken != 0) {
    if (!untaken_.compare_exchange_weak(untaken, untaken - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      continue;
    }
    try {
      (*body_)(static_cast<int>(parts_ - untaken));
    } catch (...) {
      std::lock_guard lock(failure_mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    untaken = untaken_.load(std::memory_order_acquire);
  }
}

}  // namespace cortex
