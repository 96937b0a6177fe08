// What sequences share: finds the blocks that a new sequence need not compute, gives full blocks their keys as they are
// computed, and offers them to the tier below. Pure bookkeeping; owned by the scheduler, the engine thread only.
//
// Invariants:
//   1. a sequence finds at most what leaves it one token to compute;
//   2. a block that others wait for belongs to a sequence that runs and has not computed it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/block_tier.h"
#include "engine/sequence.h"
#include "kv/block_pool.h"

namespace cortex {

class PrefixReuse {
 public:
  // `identity` is all that a block's bytes depend on but tokens and salt. Both outlive it; without a tier it is null.
  PrefixReuse(std::vector<std::string> identity, BlockPool* pool, BlockTier* tier)
      : identity_(std::move(identity)), pool_(pool), tier_(tier) {}

  // A new sequence, before anything else.
  void name(Sequence* sequence) const;

  struct Found {
    std::vector<BlockId> blocks;  // in the pool; the caller retains them
    int below = 0;                // more of them that are worth reading from the tier below
    bool coming = false;          // a sequence that runs is computing the next one
  };
  // compute_ms(first, blocks) is how long it takes to compute so many.
  template <typename ComputeMs>
  Found find(Sequence* sequence, ComputeMs compute_ms) const;
  CacheExplanation explain(const Sequence& sequence, const Found& found,
                           std::span<const std::unique_ptr<Sequence>> running) const;

  // It starts, with what was found in its blocks: others may wait for the rest of its prompt.
  void start(Sequence* sequence);
  // More of it is computed.
  void publish(Sequence* sequence);
  // It stops, whatever the reason, before its blocks are released.
  void stop(Sequence* sequence);
  // Offers its full blocks to the tier below.
  void keep(Sequence* sequence);

 private:
  int most_blocks(const Sequence& sequence) const;
  void extend_keys(Sequence* sequence, int blocks) const;
  Found find_in_pool(Sequence* sequence) const;
  BlockKey parent_of(const Sequence& sequence, int block) const;

  const std::vector<std::string> identity_;
  BlockPool* const pool_;
  BlockTier* const tier_;
  std::unordered_map<BlockKey, int, BlockKeyHash> announced_;  // sequences that are computing it
};

template <typename ComputeMs>
PrefixReuse::Found PrefixReuse::find(Sequence* sequence, ComputeMs compute_ms) const {
  Found found = find_in_pool(sequence);
  if (tier_ == nullptr || found.coming || !sequence->reuses()) return found;
  const int first = static_cast<int>(found.blocks.size());
  const auto chain = std::span(sequence->keys).first(static_cast<std::size_t>(most_blocks(*sequence)));
  const int there = tier_->available(sequence->root, chain, first);
  if (there > 0 && tier_->worth_reading(there, compute_ms(first, there))) found.below = there;
  return found;
}

}  // namespace cortex
