// One end of the socket pair between the front and a worker: frames in, frames out. Writing never blocks the caller:
// frames queue, bounded in bytes, and a thread of the socket's own writes them. One thread reads; any may send and shut
// down.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/descriptor.h"
#include "worker/wire.h"

namespace cortex {

class FrameSocket {
 public:
  static constexpr std::size_t kQueueBytes = std::size_t{64} << 20;

  explicit FrameSocket(Descriptor descriptor, std::size_t queue_bytes = kQueueBytes);
  ~FrameSocket();  // shuts down
  FrameSocket(const FrameSocket&) = delete;
  FrameSocket& operator=(const FrameSocket&) = delete;

  // False, and nothing is queued, when the queue has no room or the socket is shut down. Throws as encode_frame does.
  bool send(const Frame& frame);
  // Waits for the next frame; nothing at the end of the stream. Throws Error for bytes that are no frame.
  std::optional<Frame> receive();
  // Waits until what is queued is written, or the time is over.
  void flush(std::chrono::milliseconds patience);
  // Both directions; queued frames are dropped and receive() returns.
  void shut_down();

 private:
  void write_queue();
  bool write(const std::string& bytes);

  const Descriptor descriptor_;
  const std::size_t queue_bytes_;
  FrameBuffer received_;  // the reading thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> queue_;
  std::size_t queued_bytes_ = 0;  // of queue_, with the one that is being written
  bool down_ = false;
  std::thread writer_;
};

}  // namespace cortex
