#include "backend/cpu/kv_pool.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "backend/cpu/attention_task.h"
#include "backend/cpu/kernels.h"
#include "backend/plan_check.h"
#include "base/error.h"

namespace cortex {

namespace {

// Where elements lie in the pieces of attention_task.h.
std::ptrdiff_t key_at(std::ptrdiff_t token, std::ptrdiff_t element) {
  return (element / 2 * kBlockTokens + token) * 2 + element % 2;
}

std::ptrdiff_t value_at(int head_dim, std::ptrdiff_t token, std::ptrdiff_t element) {
  return (token / 2 * padded_head_dim(head_dim) + element) * 2 + token % 2;
}

float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

}  // namespace

KvPool::KvPool(int layers, int kv_heads, int head_dim, KvPrecision precision)
    : precision_(precision), kv_heads_(kv_heads), head_dim_(head_dim) {
  constexpr std::size_t kTokens = kBlockTokens;
  if (precision == KvPrecision::f32) {
    key_bytes_ = kTokens * static_cast<std::size_t>(head_dim) * sizeof(float);
    value_bytes_ = key_bytes_;
  } else {
    CORTEX_CHECK(head_dim % 2 == 0 && head_dim <= kMostHeadDim);
    key_bytes_ = kTokens * static_cast<std::size_t>(head_dim) * sizeof(std::uint16_t);
    value_bytes_ = kTokens * static_cast<std::size_t>(padded_head_dim(head_dim)) * sizeof(std::uint16_t);
  }
  layer_bytes_ = static_cast<std::size_t>(kv_heads) * (key_bytes_ + value_bytes_);
  block_bytes_ = static_cast<std::size_t>(layers) * layer_bytes_;
  const std::size_t page = MappedMemory::page_bytes();
  stride_bytes_ = (block_bytes_ + page - 1) / page * page;
}

KvGeometry KvPool::geometry() const {
  if (precision_ == KvPrecision::f32) {
    return {.block_bytes = block_bytes_, .layout = "f32[layer][k,v][kv_head][token][dim]", .numeric_class = {}};
  }
  return {.block_bytes = block_bytes_,
          .layout = "bf16[layer]{k[kv_head][dim/2][token][2],v[kv_head][token/2][dim to 16s][2]}",
          .numeric_class = {}};
}

void KvPool::reserve(int blocks) {
  CORTEX_CHECK(blocks >= 0);
  blocks_ = 0;
  memory_ = MappedMemory();
  memory_ = MappedMemory(static_cast<std::size_t>(blocks) * stride_bytes_);
  blocks_ = blocks;
}

void KvPool::put(BlockId block, int layer, int kv_head, int token, const float* key, const float* value) {
  if (precision_ == KvPrecision::f32) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(token) * head_dim_;
    std::copy_n(key, head_dim_, keys(block, layer, kv_head) + at);
    std::copy_n(value, head_dim_, values(block, layer, kv_head) + at);
    return;
  }
  kernels().keep(key, value, head_dim_, token, bf16_keys(block, layer, kv_head), bf16_values(block, layer, kv_head));
}

void KvPool::get(BlockId block, int layer, int kv_head, int token, float* key, float* value) const {
  if (precision_ == KvPrecision::f32) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(token) * head_dim_;
    std::copy_n(keys(block, layer, kv_head) + at, head_dim_, key);
    std::copy_n(values(block, layer, kv_head) + at, head_dim_, value);
    return;
  }
  for (int d = 0; d < head_dim_; ++d) {
    key[d] = from_bf16(bf16_keys(block, layer, kv_head)[key_at(token, d)]);
    value[d] = from_bf16(bf16_values(block, layer, kv_head)[value_at(head_dim_, token, d)]);
  }
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

void KvPool::prepare(std::span<const BlockId> blocks) {
  check_blocks(blocks, blocks_);
  for (const BlockId block : blocks) memory_.touch(static_cast<std::size_t>(block) * stride_bytes_, stride_bytes_);
}

}  // namespace cortex
