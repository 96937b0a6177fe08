// What the blocks of a pool hold, by key: how a new prompt finds its beginning. It also knows enough of what was there
// to say why a prompt's next block is not. Pure bookkeeping; owned by the pool, the engine thread only.
//
// Invariants:
//   1. a key has at most one block and a block at most one key;
//   2. a block's key, once given, stays until the block is forgotten;
//   3. at most kRememberedKeys of the keys that were forgotten are remembered, the latest.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "backend/step_plan.h"
#include "kv/block_hash.h"

namespace cortex {

inline constexpr std::size_t kRememberedKeys = 1 << 13;

class PrefixIndex {
 public:
  struct Link {
    BlockKey parent;  // of the first block the root
    BlockKey key;
    std::array<TokenId, kBlockTokens> tokens;
    BlockKey kin;  // the key with nothing of the salt but what its tenants share: see had_by_kin()
  };

  // `block` is full and computed. False, and nothing is changed, when another block has the key.
  bool add(BlockId block, const Link& link);
  void forget(BlockId block);
  bool has(BlockId block) const { return links_.contains(block); }

  std::optional<BlockId> find(const BlockKey& key) const;
  // The blocks of the longest beginning of the chain that is there.
  std::vector<BlockId> find_chain(std::span<const BlockKey> keys) const;

  // Why a key is not there.
  bool was_forgotten(const BlockKey& key) const { return forgotten_.contains(key); }
  // Whether a block of another salt has the same tokens behind the same ones.
  bool had_by_kin(const BlockKey& kin) const { return kin_.contains(kin); }
  // Of the blocks that follow `parent`, the one that shares most tokens with `tokens`: how many. Nothing when none
  // follows.
  std::optional<int> common_tokens(const BlockKey& parent, std::span<const TokenId> tokens) const;

 private:
  std::unordered_map<BlockId, Link> links_;
  std::unordered_map<BlockKey, BlockId, BlockKeyHash> blocks_;
  std::unordered_multimap<BlockKey, BlockId, BlockKeyHash> children_;  // by parent
  std::unordered_map<BlockKey, int, BlockKeyHash> kin_;                // blocks that have it
  std::unordered_map<BlockKey, int, BlockKeyHash> forgotten_;          // times it stands in the order
  std::deque<BlockKey> forgotten_order_;
};

}  // namespace cortex
