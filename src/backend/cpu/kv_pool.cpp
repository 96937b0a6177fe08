#include "backend/cpu/kv_pool.h"

#include <cstring>

#include "backend/plan_check.h"
#include "base/error.h"

namespace cortex {

KvPool::KvPool(int layers, int kv_heads, int head_dim)
    : kv_heads_(kv_heads), head_floats_(static_cast<std::size_t>(kBlockTokens) * static_cast<std::size_t>(head_dim)) {
  block_bytes_ =
      2 * static_cast<std::size_t>(layers) * static_cast<std::size_t>(kv_heads) * head_floats_ * sizeof(float);
  const std::size_t page = MappedMemory::page_bytes();
  stride_bytes_ = (block_bytes_ + page - 1) / page * page;
}

KvGeometry KvPool::geometry() const {
  return {.block_bytes = block_bytes_, .layout = "f32[layer][k,v][kv_head][token][dim]", .numeric_class = "cpu-f32"};
}

void KvPool::reserve(int blocks) {
  CORTEX_CHECK(blocks >= 0);
  blocks_ = 0;
  memory_ = MappedMemory();
  memory_ = MappedMemory(static_cast<std::size_t>(blocks) * stride_bytes_);
  blocks_ = blocks;
}

void KvPool::read(std::span<const BlockId> blocks, std::span<std::byte> out) const {
  check_blocks(blocks, blocks_);
  check_block_bytes(blocks, block_bytes_, out.size());
  std::byte* to = out.data();
  for (const BlockId block : blocks) {
    std::memcpy(to, block_data(block), block_bytes_);
    to += block_bytes_;
  }
}

void KvPool::write(std::span<const BlockId> blocks, std::span<const std::byte> bytes) {
  check_blocks(blocks, blocks_);
  check_block_bytes(blocks, block_bytes_, bytes.size());
  const std::byte* from = bytes.data();
  for (const BlockId block : blocks) {
    std::memcpy(block_data(block), from, block_bytes_);
    from += block_bytes_;
  }
}

void KvPool::discard(std::span<const BlockId> blocks) {
  check_blocks(blocks, blocks_);
  for (const BlockId block : blocks) memory_.discard(static_cast<std::size_t>(block) * stride_bytes_, stride_bytes_);
}

}  // namespace cortex
