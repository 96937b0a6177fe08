// MLX's allocator, which all models of the process share: what it has, and what it keeps of freed buffers for the next
// step. Any thread.
#pragma once

#include <cstddef>

namespace cortex {

// In use and kept.
std::size_t mlx_device_bytes();

// Gives back what is kept.
void trim_mlx();

// First among a model's members: what they leave in the allocator goes with them.
struct TrimsMlxAtEnd {
  TrimsMlxAtEnd() = default;
  TrimsMlxAtEnd(const TrimsMlxAtEnd&) = delete;
  TrimsMlxAtEnd& operator=(const TrimsMlxAtEnd&) = delete;
  ~TrimsMlxAtEnd() { trim_mlx(); }
};

}  // namespace cortex
