#include "kv/block_pool.h"

#include <numeric>

#include "base/error.h"

namespace cortex {

BlockPool::BlockPool(int blocks) : free_(blocks) {
  CORTEX_CHECK(blocks >= 0);
  references_.assign(static_cast<std::size_t>(blocks), 0);
}

std::optional<std::vector<BlockId>> BlockPool::allocate(int count) {
  CORTEX_CHECK(count >= 0);
  if (count > free_) return std::nullopt;
  std::vector<BlockId> blocks(static_cast<std::size_t>(count));
  if (const auto first = find_run(count)) {
    std::iota(blocks.begin(), blocks.end(), *first);
  } else {
    BlockId next = 0;
    for (BlockId& block : blocks) {
      while (references_[index(next)] != 0) ++next;
      block = next++;
    }
  }
  for (const BlockId block : blocks) references_[index(block)] = 1;
  free_ -= count;
  return blocks;
}

void BlockPool::retain(std::span<const BlockId> blocks) {
  for (const BlockId block : blocks) {
    CORTEX_CHECK(references_[index(block)] > 0);
    ++references_[index(block)];
  }
}

void BlockPool::release(std::span<const BlockId> blocks) {
  for (const BlockId block : blocks) {
    CORTEX_CHECK(references_[index(block)] > 0);
    if (--references_[index(block)] == 0) ++free_;
  }
}

int BlockPool::references(BlockId block) const { return references_[index(block)]; }

std::optional<BlockId> BlockPool::find_run(int count) const {
  int run = 0;
  for (BlockId block = 0; block < total_blocks(); ++block) {
    run = references_[index(block)] == 0 ? run + 1 : 0;
    if (run >= count) return block - run + 1;
  }
  return std::nullopt;
}

std::size_t BlockPool::index(BlockId block) const {
  CORTEX_CHECK(block >= 0 && block < total_blocks());
  return static_cast<std::size_t>(block);
}

}  // namespace cortex
