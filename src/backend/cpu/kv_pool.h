// The blocks that hold K and V of one decoder, in float32. A block is [layer][key, value][kv_head][token][head_dim], so
// that the keys of one head lie together for the tokens of a block. Owned by the decoder; the engine thread only,
// except that the team reads and writes disjoint rows.
#pragma once

#include <cstddef>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/mapped_memory.h"

namespace cortex {

class KvPool {
 public:
  KvPool(int layers, int kv_heads, int head_dim);

  KvGeometry geometry() const;
  int blocks() const { return blocks_; }
  std::size_t memory_bytes() const { return memory_.size_bytes(); }
  void reserve(int blocks);

  // Keys or values of one head of a block, [kBlockTokens, head_dim].
  float* keys(BlockId block, int layer, int kv_head) const { return at(block, 2 * layer, kv_head); }
  float* values(BlockId block, int layer, int kv_head) const { return at(block, 2 * layer + 1, kv_head); }

  void read(std::span<const BlockId> blocks, std::span<std::byte> out) const;
  void write(std::span<const BlockId> blocks, std::span<const std::byte> bytes);
  void discard(std::span<const BlockId> blocks);

 private:
  std::byte* block_data(BlockId block) const {
    return memory_.data() + static_cast<std::size_t>(block) * stride_bytes_;
  }
  float* at(BlockId block, int plane, int kv_head) const {
    return reinterpret_cast<float*>(block_data(block)) +
           (static_cast<std::size_t>(plane) * static_cast<std::size_t>(kv_heads_) + static_cast<std::size_t>(kv_head)) *
               head_floats_;
  }

  int kv_heads_;
  std::size_t head_floats_;  // kBlockTokens * head_dim
  std::size_t block_bytes_;
  std::size_t stride_bytes_;  // block_bytes_ rounded up to pages, so that a block can be given back
  int blocks_ = 0;
  MappedMemory memory_;
};

}  // namespace cortex
