#include "worker/frame_socket.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace cortex {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
void silence(int) {}
#else
constexpr int kSendFlags = 0;
void silence(int descriptor) {
  const int on = 1;
  ::setsockopt(descriptor, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
}
#endif

}  // namespace

FrameSocket::FrameSocket(Descriptor descriptor, std::size_t queue_bytes)
    : descriptor_(std::move(descriptor)), queue_bytes_(queue_bytes) {
  silence(descriptor_.get());
  writer_ = std::thread([this] { write_queue(); });
}

FrameSocket::~FrameSocket() {
  shut_down();
  writer_.join();
}

bool FrameSocket::send(const Frame& frame) {
  std::string bytes = encode_frame(frame);
  std::lock_guard lock(mutex_);
  if (down_ || queued_bytes_ + bytes.size() > queue_bytes_) return false;
  queued_bytes_ += bytes.size();
  queue_.push_back(std::move(bytes));
  changed_.notify_all();
  return true;
}

std::optional<Frame> FrameSocket::receive() {
  std::array<char, kReadBytes> bytes;
  while (true) {
    if (auto frame = received_.next()) return frame;
    const ssize_t count = ::recv(descriptor_.get(), bytes.data(), bytes.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return std::nullopt;
    received_.append(std::span(bytes).first(static_cast<std::size_t>(count)));
  }
}

void FrameSocket::flush(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [&] { return down_ || queued_bytes_ == 0; });
}

void FrameSocket::shut_down() {
  std::lock_guard lock(mutex_);
  down_ = true;
  ::shutdown(descriptor_.get(), SHUT_RDWR);
  changed_.notify_all();
}

void FrameSocket::write_queue() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return down_ || !queue_.empty(); });
    if (down_) return;
    const std::string bytes = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    const bool written = write(bytes);
    lock.lock();
    queued_bytes_ -= bytes.size();
    if (!written) down_ = true;
    changed_.notify_all();
  }
}

bool FrameSocket::write(const std::string& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::send(descriptor_.get(), bytes.data() + done, bytes.size() - done, kSendFlags);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace cortex
