// Which KV blocks are in use and by how many, and which of the others hold something that can be found again. Pure
// bookkeeping of ids: the bytes are the backend's. One pool a decoder, owned by its scheduler's owner and used by the
// engine thread only.
//
// Invariants:
//   1. every id in [0, total_blocks()) is used (one or more references), cached (none, and the index has it) or empty
//      (none, and the index has it not);
//   2. used_blocks() + cached_blocks() + empty_blocks() == total_blocks();
//   3. allocate() gives every asked-for block or none, empty ones first, then cached ones in the order of their
//   release,
//      which the index forgets;
//   4. of the blocks that are released together the last is evicted first: what follows is of no use without what
//   leads;
//   5. an allocation is a contiguous ascending run wherever such a run is empty (the lowest one), else the lowest empty
//      ids in ascending order, so that devices can read slices in place of gathers.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "backend/step_plan.h"
#include "kv/prefix_index.h"

namespace cortex {

class BlockPool {
 public:
  explicit BlockPool(int blocks);  // all empty

  // `count` blocks with one reference each; nothing when fewer are free. A single block is the one behind `last` where
  // that is empty.
  std::optional<std::vector<BlockId>> allocate(int count, std::optional<BlockId> last = std::nullopt);
  // One more reference to each; they must be in use or cached.
  void retain(std::span<const BlockId> blocks);
  // One reference less to each; a block without references is free at once.
  void release(std::span<const BlockId> blocks);

  // Forgets what cached blocks hold, of at most so many, in the order of allocate(): they are empty now.
  int evict(int most);
  // Of the empty blocks those that were given since they were last told here: memory may stand behind them that nobody
  // needs.
  std::vector<BlockId> take_touched();

  // What used blocks hold: the pool's owner adds, the pool forgets.
  PrefixIndex& index() { return index_; }
  const PrefixIndex& index() const { return index_; }

  int references(BlockId block) const;
  int total_blocks() const { return static_cast<int>(blocks_.size()); }
  int free_blocks() const { return empty_ + cached_; }
  int empty_blocks() const { return empty_; }
  int cached_blocks() const { return cached_; }
  int used_blocks() const { return total_blocks() - free_blocks(); }
  // All that were ever given, and have not been told by take_touched() since, have ids below.
  int touched_blocks() const { return touched_; }

 private:
  static constexpr BlockId kNone = -1;

  // Cached blocks are a list in the order of their release.
  struct Block {
    int references = 0;
    bool cached = false;
    bool touched = false;
    BlockId before = kNone, after = kNone;
  };

  Block& at(BlockId block);
  bool is_empty(BlockId block) const;
  void append_cached(BlockId block);
  void remove_cached(BlockId block);
  void evict_oldest();
  // Of the lowest empty run of `count` blocks.
  std::optional<BlockId> find_run(int count) const;

  std::vector<Block> blocks_;  // [total]
  PrefixIndex index_;
  int empty_, cached_ = 0, touched_ = 0;
  BlockId oldest_ = kNone, newest_ = kNone;
};

}  // namespace cortex
