// The blocks that hold K and V of one decoder. A block is [layer][key, value][kv_head] pieces, so that the keys of one
// head lie together for the tokens of a block: float32 pieces are [token][head_dim], bfloat16 ones are as
// attention_task.h has them, and those of 8 bits have a code for each element in the same order and then a float32
// scale for each token: element = code * scale. What a fresh block holds is zeros. Owned by the decoder; the engine
// thread only, except that the team reads and writes disjoint rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/mapped_memory.h"
#include "base/error.h"

namespace cortex {

enum class KvPrecision { f32, bf16, q8 };

class KvPool {
 public:
  // bf16 and q8 take an even head_dim of at most kMostHeadDim.
  KvPool(int layers, int kv_heads, int head_dim, KvPrecision precision = KvPrecision::f32);

  // But for the numeric class, which who computes keys and values knows.
  KvGeometry geometry() const;
  int blocks() const { return blocks_; }
  std::size_t memory_bytes() const { return memory_.size_bytes(); }
  // Of that a block takes.
  std::size_t stride_bytes() const { return stride_bytes_; }
  void reserve(int blocks);

  // Keeps the key and the value of one token, [head_dim] each; bfloat16 rounds to the nearest, ties to even, and 8 bits
  // to the nearest of 255 codes for the token's largest element. What is not finite gives a scale that is not.
  void put(BlockId block, int layer, int kv_head, int token, const float* key, const float* value);
  // What was kept, [head_dim] each.
  void get(BlockId block, int layer, int kv_head, int token, float* key, float* value) const;

  // Keys or values of one head of a block of a float32 pool, [kBlockTokens, head_dim].
  float* keys(BlockId block, int layer, int kv_head) const {
    CORTEX_CHECK(precision_ == KvPrecision::f32);
    return reinterpret_cast<float*>(key_data(block, layer, kv_head));
  }
  float* values(BlockId block, int layer, int kv_head) const {
    CORTEX_CHECK(precision_ == KvPrecision::f32);
    return reinterpret_cast<float*>(value_data(block, layer, kv_head));
  }

  // The same of a bfloat16 pool, as AttentionTask takes them; 64-byte aligned.
  std::uint16_t* bf16_keys(BlockId block, int layer, int kv_head) const {
    CORTEX_CHECK(precision_ == KvPrecision::bf16);
    return reinterpret_cast<std::uint16_t*>(key_data(block, layer, kv_head));
  }
  std::uint16_t* bf16_values(BlockId block, int layer, int kv_head) const {
    CORTEX_CHECK(precision_ == KvPrecision::bf16);
    return reinterpret_cast<std::uint16_t*>(value_data(block, layer, kv_head));
  }

  // Of a pool of 8 bits: what a block keeps of one layer as the only layer of the same block of `to`, a bfloat16 pool,
  // to the nearest.
  void widen(BlockId block, int layer, KvPool* to) const;

  void read(std::span<const BlockId> blocks, std::span<std::byte> out) const;
  void write(std::span<const BlockId> blocks, std::span<const std::byte> bytes);
  void discard(std::span<const BlockId> blocks);
  void prepare(std::span<const BlockId> blocks);

 private:
  void keep_codes(const float* key, const float* value, int token, std::byte* keys, std::byte* values) const;
  std::byte* block_data(BlockId block) const {
    return memory_.data() + static_cast<std::size_t>(block) * stride_bytes_;
  }
  std::byte* key_data(BlockId block, int layer, int kv_head) const {
    return block_data(block) + static_cast<std::size_t>(layer) * layer_bytes_ +
           static_cast<std::size_t>(kv_head) * key_bytes_;
  }
  std::byte* value_data(BlockId block, int layer, int kv_head) const {
    return block_data(block) + static_cast<std::size_t>(layer) * layer_bytes_ +
           static_cast<std::size_t>(kv_heads_) * key_bytes_ + static_cast<std::size_t>(kv_head) * value_bytes_;
  }

  KvPrecision precision_;
  int kv_heads_, head_dim_;
  std::size_t key_codes_ = 0, value_codes_ = 0;  // elements of one head of a block, padding included; not f32
  std::size_t key_bytes_, value_bytes_;          // of one head of a block
  std::size_t layer_bytes_, block_bytes_;
  std::size_t stride_bytes_;  // block_bytes_ rounded up to pages, so that a block can be given back
  int blocks_ = 0;
  MappedMemory memory_;
};

}  // namespace cortex
