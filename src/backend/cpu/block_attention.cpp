#include "backend/cpu/block_attention.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "backend/cpu/kernels.h"

namespace cortex {

BlockAttention::BlockAttention(int head_dim) : head_dim_(head_dim) {
  constexpr std::size_t kAlignBytes = 64;
  const std::size_t bytes = attention_scratch_floats(head_dim) * sizeof(float);
  void* scratch = std::aligned_alloc(kAlignBytes, (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes);
  if (scratch == nullptr) throw std::bad_alloc();
  scratch_.reset(static_cast<float*>(scratch));
}

void BlockAttention::run(const KvPool& pool, int layer, int kv_head, const BlockId* blocks, float scale) {
  int first = rows_.front().first, last = rows_.front().last;
  for (const AttentionRow& row : rows_) {
    first = std::min(first, row.first);
    last = std::max(last, row.last);
  }
  const auto end = static_cast<std::size_t>(last / kBlockTokens) + 1;
  keys_.assign(end, nullptr);
  values_.assign(end, nullptr);
  for (auto block = static_cast<std::size_t>(first / kBlockTokens); block < end; ++block) {
    keys_[block] = pool.bf16_keys(blocks[block], layer, kv_head);
    values_[block] = pool.bf16_values(blocks[block], layer, kv_head);
  }
  kernels().attend({.keys = keys_.data(),
                    .values = values_.data(),
                    .head_dim = head_dim_,
                    .scale = scale,
                    .rows = rows_.data(),
                    .count = static_cast<int>(rows_.size()),
                    .scratch = scratch_.get()});
}

}  // namespace cortex
