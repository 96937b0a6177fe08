#include "backend/cpu/layer_stream.h"

#include <algorithm>
#include <utility>

#include "backend/holding.h"
#include "base/error.h"

namespace cortex {

LayerStream::LayerStream(PackedLayers packed, std::vector<StreamedLayer> layers)
    : packed_(std::move(packed)),
      layers_(std::move(layers)),
      most_in_memory_(std::min<std::uint64_t>(layers_.size(), kStreamedAtOnce)),
      reader_([this] { read_ahead(); }) {
  CORTEX_CHECK(!layers_.empty());
}

LayerStream::~LayerStream() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  reader_.join();
}

void LayerStream::begin_step() {
  std::unique_lock lock(mutex_);
  if (!failure_ && entered_ % layers_.size() == 0) return;
  changed_.wait(lock, [&] { return !reading_; });
  start_anew();
  changed_.notify_all();
}

void LayerStream::enter(int layer) {
  std::unique_lock lock(mutex_);
  CORTEX_CHECK(at(entered_).layer == layer);
  changed_.wait(lock, [&] { return read_ > entered_ || failure_; });
  if (read_ == entered_) std::rethrow_exception(failure_);
}

void LayerStream::leave(int layer) {
  {
    const std::lock_guard lock(mutex_);
    CORTEX_CHECK(at(entered_).layer == layer && read_ > entered_);
    at(entered_).range->discard();
    ++entered_;
  }
  changed_.notify_all();
}

int LayerStream::in_memory() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(read_ - entered_) + (reading_ ? 1 : 0);
}

void LayerStream::read_ahead() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || (!failure_ && read_ - entered_ < most_in_memory_); });
    if (stopping_) return;
    const StreamedLayer& next = at(read_);
    reading_ = true;
    lock.unlock();
    std::exception_ptr failure;
    try {
      packed_.read(next.layer, next.range->content());
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    reading_ = false;
    if (failure) {
      next.range->discard();
      failure_ = std::move(failure);
    } else {
      ++read_;
    }
    changed_.notify_all();
  }
}

void LayerStream::start_anew() {
  for (; entered_ < read_; ++entered_) at(entered_).range->discard();
  entered_ = read_ = 0;
  if (failure_) packed_.close();
  failure_ = nullptr;
}

}  // namespace cortex
