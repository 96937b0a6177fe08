#include "kv/block_pool.h"

#include <algorithm>
#include <numeric>
#include <ranges>
#include <utility>

#include "base/error.h"

namespace cortex {

BlockPool::BlockPool(int blocks) : empty_(blocks) {
  CORTEX_CHECK(blocks >= 0);
  blocks_.resize(static_cast<std::size_t>(blocks));
}

std::optional<std::vector<BlockId>> BlockPool::allocate(int count, std::optional<BlockId> last) {
  CORTEX_CHECK(count >= 0);
  if (count > free_blocks()) return std::nullopt;
  while (empty_ < count) evict_oldest();
  std::vector<BlockId> blocks(static_cast<std::size_t>(count));
  if (count == 1 && last && *last + 1 < total_blocks() && is_empty(*last + 1)) {
    blocks.front() = *last + 1;
  } else if (const auto first = find_run(count)) {
    std::iota(blocks.begin(), blocks.end(), *first);
  } else {
    BlockId next = 0;
    for (BlockId& block : blocks) {
      while (!is_empty(next)) ++next;
      block = next++;
    }
  }
  for (const BlockId block : blocks) {
    at(block).references = 1;
    at(block).touched = true;
    touched_ = std::max(touched_, block + 1);
  }
  empty_ -= count;
  return blocks;
}

void BlockPool::retain(std::span<const BlockId> blocks) {
  for (const BlockId block : blocks) {
    CORTEX_CHECK(at(block).references > 0 || at(block).cached);
    if (at(block).cached) remove_cached(block);
    ++at(block).references;
  }
}

void BlockPool::release(std::span<const BlockId> blocks) {
  for (const BlockId block : std::views::reverse(blocks)) {
    CORTEX_CHECK(at(block).references > 0);
    if (--at(block).references > 0) continue;
    if (index_.has(block)) {
      append_cached(block);
    } else {
      ++empty_;
    }
  }
}

int BlockPool::evict(int most) {
  const int count = std::min(most, cached_);
  for (int i = 0; i < count; ++i) evict_oldest();
  return count;
}

std::vector<BlockId> BlockPool::take_touched() {
  std::vector<BlockId> told;
  touched_ = 0;
  for (BlockId block = 0; block < total_blocks(); ++block) {
    Block& known = at(block);
    if (is_empty(block)) {
      if (std::exchange(known.touched, false)) told.push_back(block);
    } else {
      touched_ = block + 1;
    }
  }
  return told;
}

int BlockPool::references(BlockId block) const {
  CORTEX_CHECK(block >= 0 && block < total_blocks());
  return blocks_[static_cast<std::size_t>(block)].references;
}

BlockPool::Block& BlockPool::at(BlockId block) {
  CORTEX_CHECK(block >= 0 && block < total_blocks());
  return blocks_[static_cast<std::size_t>(block)];
}

bool BlockPool::is_empty(BlockId block) const {
  const Block& known = blocks_[static_cast<std::size_t>(block)];
  return known.references == 0 && !known.cached;
}

void BlockPool::append_cached(BlockId block) {
  Block& added = at(block);
  added.cached = true;
  added.before = newest_;
  (newest_ == kNone ? oldest_ : at(newest_).after) = block;
  newest_ = block;
  ++cached_;
}

void BlockPool::remove_cached(BlockId block) {
  Block& removed = at(block);
  (removed.before == kNone ? oldest_ : at(removed.before).after) = removed.after;
  (removed.after == kNone ? newest_ : at(removed.after).before) = removed.before;
  removed.cached = false;
  removed.before = removed.after = kNone;
  --cached_;
}

void BlockPool::evict_oldest() {
  const BlockId block = oldest_;
  remove_cached(block);
  index_.forget(block);
  ++empty_;
}

std::optional<BlockId> BlockPool::find_run(int count) const {
  int run = 0;
  for (BlockId block = 0; block < total_blocks(); ++block) {
    run = is_empty(block) ? run + 1 : 0;
    if (run >= count) return block - run + 1;
  }
  return std::nullopt;
}

}  // namespace cortex
