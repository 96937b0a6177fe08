// Memory for weights: all of a model's, mapped in large chunks that take huge pages, or one layer's in a range of its
// own, whose content can go and come back; handed out end to end, given back whole. One that only measures has no
// memory. Filled by the loading thread; owned by the model.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/cpu/mapped_memory.h"

namespace cortex {

class WeightArena {
 public:
  static constexpr std::size_t kAlignBytes = 64;

  WeightArena() = default;
  // One range of `bytes` bytes, all that it can hand out.
  static WeightArena range_of(std::size_t bytes);
  static WeightArena measuring();

  // Zero at first, aligned to kAlignBytes; null when it only measures. Throws Error memory_pressure when the system has
  // no more.
  std::byte* allocate(std::size_t bytes);
  bool measures() const { return kind_ == Kind::measure; }

  // Of a range: what was handed out, end to end.
  std::span<std::byte> content() const;
  // Of a range: gives its pages back; its content is undefined until it is written anew.
  void discard();
  // Of a range: hands it out anew from its beginning, as it is.
  void rewind();

  // What was handed out, with the gaps between; the untouched rest of a chunk costs no memory.
  std::size_t bytes_used() const { return bytes_used_; }

 private:
  enum class Kind { chunks, range, measure };
  struct Chunk {
    MappedMemory memory;
    std::size_t used = 0;
  };

  explicit WeightArena(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::chunks;
  std::vector<Chunk> chunks_;
  std::size_t bytes_used_ = 0;
};

}  // namespace cortex
