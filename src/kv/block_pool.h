// Which KV blocks are in use and by how many. Pure bookkeeping of ids: the bytes are the backend's. One pool a decoder,
// owned by its scheduler's owner and used by the engine thread only. A block that is released is free for other
// sequences; the device keeps its memory, nothing calls DecoderBackend::discard() yet.
//
// Invariants:
//   1. every id in [0, total_blocks()) is free (no references) or used (one or more);
//   2. free_blocks() + used_blocks() == total_blocks();
//   3. allocate() gives every asked-for block or none;
//   4. an allocation is a contiguous ascending run wherever such a run is free (the lowest one), else the lowest free
//      ids in ascending order, so that devices can read slices in place of gathers.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "backend/step_plan.h"

namespace cortex {

class BlockPool {
 public:
  explicit BlockPool(int blocks);  // all free

  // `count` blocks with one reference each; nothing when fewer are free.
  std::optional<std::vector<BlockId>> allocate(int count);
  // One more reference to each; they must be in use.
  void retain(std::span<const BlockId> blocks);
  // One reference less to each; a block without references is free at once.
  void release(std::span<const BlockId> blocks);

  int references(BlockId block) const;
  int total_blocks() const { return static_cast<int>(references_.size()); }
  int free_blocks() const { return free_; }
  int used_blocks() const { return total_blocks() - free_; }

 private:
  // Of the lowest free run of `count` blocks.
  std::optional<BlockId> find_run(int count) const;
  std::size_t index(BlockId block) const;

  std::vector<int> references_;  // [total]
  int free_;
};

}  // namespace cortex
