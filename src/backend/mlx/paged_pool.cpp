#include "backend/mlx/paged_pool.h"

#include <fmt/core.h>

#include <cstring>
#include <limits>

#include "backend/mlx/layers.h"
#include "base/error.h"

namespace cortex {

PagedPool::PagedPool(const DecoderSpec& spec)
    : layers_(static_cast<int>(spec.layers.size())), kv_heads_(spec.kv_heads), head_dim_(spec.head_dim) {}

void PagedPool::reserve(int blocks) {
  CORTEX_CHECK(blocks >= 0 && blocks <= std::numeric_limits<std::int32_t>::max() / kBlockTokens);
  keys_.clear();
  values_.clear();
  blocks_ = 0;
  if (blocks == 0) return;
  const mx::Shape shape{kv_heads_, blocks * kBlockTokens, head_dim_};
  for (int layer = 0; layer < layers_; ++layer) {
    keys_.push_back(mx::zeros(shape, kDtype));
    values_.push_back(mx::zeros(shape, kDtype));
  }
  mx::eval(arrays());
  blocks_ = blocks;
}

std::size_t PagedPool::bytes() const { return static_cast<std::size_t>(blocks_) * block_bytes(); }

std::size_t PagedPool::block_bytes() const {
  return 2 * static_cast<std::size_t>(mx::size_of(kDtype)) * static_cast<std::size_t>(layers_) *
         static_cast<std::size_t>(kv_heads_) * static_cast<std::size_t>(kBlockTokens) *
         static_cast<std::size_t>(head_dim_);
}

PagedPool::Range PagedPool::locate(std::span<const BlockId> blocks, int begin, int end) const {
  const int first = begin / kBlockTokens;
  const int count = (end - 1) / kBlockTokens - first + 1;
  const std::span<const BlockId> used =
      blocks.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  bool contiguous = true;
  for (std::size_t i = 1; i < used.size(); ++i) contiguous = contiguous && used[i] == used[i - 1] + 1;
  Range range{.tokens = end - begin, .first_slot = begin - first * kBlockTokens, .blocks = std::nullopt};
  if (contiguous) {
    range.first_slot += used.front() * kBlockTokens;
  } else {
    range.blocks.emplace(used, blocks_);
  }
  return range;
}

void PagedPool::add_slots(std::span<const BlockId> blocks, int begin, int end, std::vector<std::int32_t>* slots) {
  for (int position = begin; position < end; ++position) {
    const BlockId block = blocks[static_cast<std::size_t>(position / kBlockTokens)];
    slots->push_back(block * kBlockTokens + position % kBlockTokens);
  }
}

CheckedIds PagedPool::checked_slots(std::span<const std::int32_t> slots) const {
  return CheckedIds(slots, static_cast<std::int64_t>(blocks_) * kBlockTokens);
}

void PagedPool::append(int layer, const CheckedIds& slots, const mx::array& k, const mx::array& v) {
  const auto replace = [&](mx::array* pool, const mx::array& rows) {
    *pool = put(*pool, slots, mx::expand_dims(rows, 2), 1);
  };
  replace(&keys_[static_cast<std::size_t>(layer)], k);
  replace(&values_[static_cast<std::size_t>(layer)], v);
}

mx::array PagedPool::read(const mx::array& pool, const Range& range) const {
  mx::array source = pool;
  if (range.blocks) {
    source = take(mx::reshape(pool, {kv_heads_, blocks_, kBlockTokens * head_dim_}), *range.blocks, 1);
    source = mx::reshape(source, {kv_heads_, -1, head_dim_});
  }
  const int end = range.first_slot + range.tokens;
  CORTEX_CHECK(range.first_slot >= 0 && end <= source.shape(1));
  return mx::expand_dims(mx::slice(source, {0, range.first_slot, 0}, {kv_heads_, end, head_dim_}), 0);
}

mx::array PagedPool::keys(int layer, const Range& range) const {
  return read(keys_[static_cast<std::size_t>(layer)], range);
}

mx::array PagedPool::values(int layer, const Range& range) const {
  return read(values_[static_cast<std::size_t>(layer)], range);
}

std::vector<mx::array> PagedPool::arrays() const {
  std::vector<mx::array> all = keys_;
  all.insert(all.end(), values_.begin(), values_.end());
  return all;
}

void PagedPool::read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) const {
  if (blocks.empty()) return;
  const CheckedIds ids(blocks, blocks_);
  std::vector<mx::array> gathered;  // [n, kv_heads, kBlockTokens * head_dim], K and V of layer after layer
  for (std::size_t layer = 0; layer < keys_.size(); ++layer) {
    for (const mx::array* pool : {&keys_[layer], &values_[layer]}) {
      const mx::array heads_first = take(mx::reshape(*pool, {kv_heads_, blocks_, kBlockTokens * head_dim_}), ids, 1);
      gathered.push_back(mx::contiguous(mx::transpose(heads_first, {1, 0, 2})));
    }
  }
  mx::eval(gathered);
  const std::size_t part_bytes = block_bytes() / gathered.size();
  for (std::size_t part = 0; part < gathered.size(); ++part) {
    const auto* from = reinterpret_cast<const std::byte*>(gathered[part].data<float>());
    for (std::size_t block = 0; block < blocks.size(); ++block) {
      std::memcpy(out.data() + block * block_bytes() + part * part_bytes, from + block * part_bytes, part_bytes);
    }
  }
}

void PagedPool::write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) {
  if (blocks.empty()) return;
  std::vector<std::int32_t> slots;
  for (const BlockId block : blocks) add_slots(std::span(&block, 1), 0, kBlockTokens, &slots);
  const CheckedIds ids = checked_slots(slots);
  const std::size_t part_bytes = block_bytes() / (2 * keys_.size());
  std::vector<float> staged(blocks.size() * part_bytes / sizeof(float));
  const auto part = [&](std::size_t index) {
    for (std::size_t block = 0; block < blocks.size(); ++block) {
      std::memcpy(reinterpret_cast<std::byte*>(staged.data()) + block * part_bytes,
                  bytes.data() + block * block_bytes() + index * part_bytes, part_bytes);
    }
    const mx::array heads_first(staged.data(), {static_cast<int>(blocks.size()), kv_heads_, kBlockTokens, head_dim_},
                                kDtype);
    return mx::reshape(mx::transpose(heads_first, {0, 2, 1, 3}), {-1, kv_heads_, head_dim_});
  };
  for (int layer = 0; layer < layers_; ++layer) {
    const std::size_t index = 2 * static_cast<std::size_t>(layer);
    append(layer, ids, part(index), part(index + 1));
  }
  mx::eval(arrays());
}

}  // namespace cortex
