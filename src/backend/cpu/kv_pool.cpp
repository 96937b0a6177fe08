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
    key_codes_ = kTokens * static_cast<std::size_t>(head_dim);
    value_codes_ = kTokens * static_cast<std::size_t>(padded_head_dim(head_dim));
    const bool coded = precision == KvPrecision::q8;
    const std::size_t element_bytes = coded ? 1 : sizeof(std::uint16_t);
    const std::size_t scale_bytes = coded ? kTokens * sizeof(float) : 0;
    key_bytes_ = key_codes_ * element_bytes + scale_bytes;
    value_bytes_ = value_codes_ * element_bytes + scale_bytes;
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
  if (precision_ == KvPrecision::q8) {
    return {.block_bytes = block_bytes_,
            .layout =
                "q8[layer]{k[kv_head]{[dim/2][token][2],f32[token]},"
                "v[kv_head]{[token/2][dim to 16s][2],f32[token]}}",
            .numeric_class = {}};
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
  if (precision_ == KvPrecision::q8) {
    return keep_codes(key, value, token, key_data(block, layer, kv_head), value_data(block, layer, kv_head));
  }
  kernels().keep(key, value, head_dim_, token, bf16_keys(block, layer, kv_head), bf16_values(block, layer, kv_head));
}

void KvPool::keep_codes(const float* key, const float* value, int token, std::byte* keys, std::byte* values) const {
  std::int8_t codes[kMostHeadDim];
  const auto to_scale = static_cast<std::size_t>(token) * sizeof(float);
  float scale = kernels().quantise_head(key, head_dim_, codes);
  std::memcpy(keys + key_codes_ + to_scale, &scale, sizeof scale);
  for (std::ptrdiff_t d = 0; d < head_dim_; ++d) keys[key_at(token, d)] = static_cast<std::byte>(codes[d]);
  scale = kernels().quantise_head(value, head_dim_, codes);
  std::memcpy(values + value_codes_ + to_scale, &scale, sizeof scale);
  for (std::ptrdiff_t d = 0; d < head_dim_; ++d)
    values[value_at(head_dim_, token, d)] = static_cast<std::byte>(codes[d]);
}

void KvPool::widen(BlockId block, int layer, KvPool* to) const {
  CORTEX_CHECK(precision_ == KvPrecision::q8);
  constexpr std::size_t kPair = 2;
  float scales[kBlockTokens], twice[kPair * kBlockTokens];
  for (int head = 0; head < kv_heads_; ++head) {
    const std::byte* keys = key_data(block, layer, head);
    std::memcpy(scales, keys + key_codes_, sizeof scales);
    for (std::size_t i = 0; i < kPair * kBlockTokens; ++i) twice[i] = scales[i / kPair];
    kernels().widen_codes(reinterpret_cast<const std::int8_t*>(keys), twice, key_codes_, to->bf16_keys(block, 0, head));
    const std::byte* values = value_data(block, layer, head);
    std::memcpy(scales, values + value_codes_, sizeof scales);
    const std::size_t pair_codes = value_codes_ / (kBlockTokens / kPair);
    for (std::size_t pair = 0; pair < kBlockTokens / kPair; ++pair) {
      for (std::size_t i = 0; i < kPair * kBlockTokens; ++i) twice[i] = scales[kPair * pair + i % kPair];
      kernels().widen_codes(reinterpret_cast<const std::int8_t*>(values) + pair * pair_codes, twice, pair_codes,
                            to->bf16_values(block, 0, head) + pair * pair_codes);
    }
  }
}

void KvPool::get(BlockId block, int layer, int kv_head, int token, float* key, float* value) const {
  if (precision_ == KvPrecision::f32) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(token) * head_dim_;
    std::copy_n(keys(block, layer, kv_head) + at, head_dim_, key);
    std::copy_n(values(block, layer, kv_head) + at, head_dim_, value);
    return;
  }
  if (precision_ == KvPrecision::q8) {
    const std::byte* keys = key_data(block, layer, kv_head);
    const std::byte* values = value_data(block, layer, kv_head);
    float scales[2];
    const auto to_scale = static_cast<std::size_t>(token) * sizeof(float);
    std::memcpy(&scales[0], keys + key_codes_ + to_scale, sizeof(float));
    std::memcpy(&scales[1], values + value_codes_ + to_scale, sizeof(float));
    for (int d = 0; d < head_dim_; ++d) {
      key[d] = static_cast<float>(static_cast<std::int8_t>(keys[key_at(token, d)])) * scales[0];
      value[d] = static_cast<float>(static_cast<std::int8_t>(values[value_at(head_dim_, token, d)])) * scales[1];
    }
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
