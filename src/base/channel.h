// A queue between threads: any number of senders and receivers, bounded, closable. Values leave in the order they came.
// Who has received a value may end the channel while its sender is still on its way out of send(): hence every wake-up
// call is made under the lock.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

namespace cortex {

template <typename T>
class Channel {
 public:
  static constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

  explicit Channel(std::size_t capacity = kUnbounded) : capacity_(capacity) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Waits for room. False, and `value` untouched, once the channel is closed.
  bool send(T&& value) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || values_.size() < capacity_; });
    return push(std::move(value));
  }

  // False, and `value` untouched, when the channel is full or closed.
  bool try_send(T&& value) {
    std::lock_guard lock(mutex_);
    return push(std::move(value));
  }

  // Waits for a value; nothing once the channel is closed and empty.
  std::optional<T> receive() {
    std::unique_lock lock(mutex_);
    filled_.wait(lock, [&] { return closed_ || !values_.empty(); });
    return pop();
  }

  // Nothing when none came in time, or as receive().
  template <typename Rep, typename Period>
  std::optional<T> receive_for(std::chrono::duration<Rep, Period> timeout) {
    std::unique_lock lock(mutex_);
    filled_.wait_for(lock, timeout, [&] { return closed_ || !values_.empty(); });
    return pop();
  }

  std::optional<T> try_receive() {
    std::lock_guard lock(mutex_);
    return pop();
  }

  // Senders fail from now on; receivers get what is left. Wakes everybody.
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    filled_.notify_all();
    room_.notify_all();
  }

  bool closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
  }

  std::size_t size() const {
    std::lock_guard lock(mutex_);
    return values_.size();
  }

 private:
  // Both: with the lock held.
  bool push(T&& value) {
    if (closed_ || values_.size() >= capacity_) return false;
    values_.push_back(std::move(value));
    filled_.notify_one();
    return true;
  }

  std::optional<T> pop() {
    if (values_.empty()) return std::nullopt;
    std::optional<T> value(std::move(values_.front()));
    values_.pop_front();
    room_.notify_one();
    return value;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable filled_;
  std::condition_variable room_;
  std::deque<T> values_;  // size() <= capacity_
  bool closed_ = false;
};

}  // namespace cortex
