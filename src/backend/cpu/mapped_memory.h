// Memory that is mapped from the system and goes back to it: weights, the KV pool and scratch, so that unloading a
// model shrinks the process. Zero at first, aligned to pages. Moves; one owner.
#pragma once

#include <cstddef>
#include <utility>

namespace cortex {

class MappedMemory {
 public:
  MappedMemory() = default;
  // Throws Error memory_pressure when the system has no more.
  explicit MappedMemory(std::size_t bytes);
  ~MappedMemory();
  MappedMemory(MappedMemory&& other) noexcept { swap(other); }
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    swap(other);
    return *this;
  }

  std::byte* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  std::size_t size_bytes() const { return size_bytes_; }

  // Gives the pages of [offset, offset + bytes) back; both are multiples of page_bytes(). Their content is undefined.
  void discard(std::size_t offset, std::size_t bytes);
  // Has the system put memory behind the pages of [offset, offset + bytes), as a first write would. Their content
  // stays, so nobody else may be writing.
  void touch(std::size_t offset, std::size_t bytes);

  static std::size_t page_bytes();

 private:
  void swap(MappedMemory& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
  }

  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

}  // namespace cortex
