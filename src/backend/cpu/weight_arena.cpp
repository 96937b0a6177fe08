#include "backend/cpu/weight_arena.h"

#include <algorithm>

namespace cortex {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{32} << 20;

}  // namespace

std::byte* WeightArena::allocate(std::size_t bytes) {
  const std::size_t taken = (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
  const auto has_room = [&](const Chunk& chunk) { return chunk.memory.size_bytes() - chunk.used >= taken; };
  auto chunk = std::ranges::find_if(chunks_, has_room);
  if (chunk == chunks_.end()) {
    chunks_.push_back({.memory = MappedMemory(std::max(taken, kChunkBytes))});
    chunk = chunks_.end() - 1;
  }
  std::byte* const at = chunk->memory.data() + chunk->used;
  chunk->used += taken;
  bytes_used_ += taken;
  return at;
}

}  // namespace cortex
