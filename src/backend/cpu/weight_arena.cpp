#include "backend/cpu/weight_arena.h"

#include <algorithm>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{32} << 20;

}  // namespace

WeightArena WeightArena::range_of(std::size_t bytes) {
  WeightArena arena(Kind::range);
  const std::size_t page = MappedMemory::page_bytes();
  arena.chunks_.push_back({.memory = MappedMemory((bytes + page - 1) / page * page)});
  return arena;
}

WeightArena WeightArena::measuring() { return WeightArena(Kind::measure); }

std::byte* WeightArena::allocate(std::size_t bytes) {
  const std::size_t taken = (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
  if (measures()) {
    bytes_used_ += taken;
    return nullptr;
  }
  const auto has_room = [&](const Chunk& chunk) { return chunk.memory.size_bytes() - chunk.used >= taken; };
  auto chunk = std::ranges::find_if(chunks_, has_room);
  if (chunk == chunks_.end()) {
    CORTEX_CHECK(kind_ == Kind::chunks);
    chunks_.push_back({.memory = MappedMemory(std::max(taken, kChunkBytes))});
    chunk = chunks_.end() - 1;
  }
  std::byte* const at = chunk->memory.data() + chunk->used;
  chunk->used += taken;
  bytes_used_ += taken;
  return at;
}

std::span<std::byte> WeightArena::content() const {
  CORTEX_CHECK(kind_ == Kind::range);
  return {chunks_.front().memory.data(), bytes_used_};
}

void WeightArena::discard() {
  CORTEX_CHECK(kind_ == Kind::range);
  MappedMemory& memory = chunks_.front().memory;
  memory.discard(0, memory.size_bytes());
}

void WeightArena::rewind() {
  CORTEX_CHECK(kind_ == Kind::range);
  chunks_.front().used = bytes_used_ = 0;
}

}  // namespace cortex
