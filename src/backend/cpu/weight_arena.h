// Memory for all weights of a model: mapped in large chunks that take huge pages, handed out end to end, given back
// whole. Filled by the loading thread; owned by the model.
#pragma once

#include <cstddef>
#include <vector>

#include "backend/cpu/mapped_memory.h"

namespace cortex {

class WeightArena {
 public:
  static constexpr std::size_t kAlignBytes = 64;

  // Zero at first, aligned to kAlignBytes. Throws Error memory_pressure when the system has no more.
  std::byte* allocate(std::size_t bytes);

  // What was handed out, with the gaps between; the untouched rest of a chunk costs no memory.
  std::size_t bytes_used() const { return bytes_used_; }

 private:
  struct Chunk {
    MappedMemory memory;
    std::size_t used = 0;
  };

  std::vector<Chunk> chunks_;
  std::size_t bytes_used_ = 0;
};

}  // namespace cortex
