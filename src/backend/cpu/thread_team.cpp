#include "backend/cpu/thread_team.h"

#include <fmt/core.h>

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <system_error>

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

// Some microseconds: what lies between two parts of a step.
constexpr int kSpins = 500;

void wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int threads, const StartThread& start) {
  const int size = threads > 0 ? threads : usable_cores();
  threads_.reserve(static_cast<std::size_t>(size) - 1);
  try {
    for (int member = 1; member < size; ++member) threads_.push_back(start([this, member] { serve(member); }));
  } catch (const std::system_error& error) {
    stop();
    throw Error(ErrorCode::engine_unavailable,
                fmt::format("cpu backend: {} threads could not be started: {}", size, error.what()));
  }
}

ThreadTeam::~ThreadTeam() { stop(); }

void ThreadTeam::stop() {
  stopping_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadTeam::run(const std::function<void(int)>& body) {
  body_ = &body;
  failure_ = nullptr;
  busy_.store(static_cast<std::uint32_t>(threads_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  work(0);
  for (std::uint32_t left = busy_.load(std::memory_order_acquire); left != 0;
       left = busy_.load(std::memory_order_acquire)) {
    wait_while(busy_, left);
  }
  if (failure_) std::rethrow_exception(failure_);
}

void ThreadTeam::parallel_for(int items, const std::function<void(int, int)>& body) {
  const int parts = std::min(items, size());
  if (parts <= 1) {
    if (items > 0) body(0, items);
    return;
  }
  run([&](int member) {
    const auto bound = [&](int part) { return static_cast<int>(static_cast<std::int64_t>(items) * part / parts); };
    if (member < parts) body(bound(member), bound(member + 1));
  });
}

void ThreadTeam::serve(int member) {
  std::uint32_t seen = 0;
  while (true) {
    wait_while(generation_, seen);
    const std::uint32_t now = generation_.load(std::memory_order_acquire);
    if (now == seen) continue;
    if (stopping_) return;
    seen = now;
    work(member);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
  }
}

void ThreadTeam::work(int member) {
  try {
    (*body_)(member);
  } catch (...) {
    std::lock_guard lock(failure_mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

}  // namespace cortex
