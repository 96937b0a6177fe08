// The tier below a decoder's pool of blocks, as its scheduler sees it: where blocks are kept beyond the pool's room and
// the process's life. Called by the engine thread, between steps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/step_plan.h"
#include "kv/block_hash.h"

namespace cortex {

// Neighbouring full blocks of a sequence: at most kBlocksPerFile, from a multiple of these on.
struct PoolRun {
  BlockKey root, parent;
  int first = 0;                // block of the sequence
  std::vector<BlockKey> keys;   // [1..]
  std::vector<TokenId> tokens;  // [16 * keys]
  std::vector<BlockId> blocks;  // [keys]
};

// The beginning of a sequence, whose blocks from `first` on are to be read.
struct PoolRestore {
  BlockKey root;
  std::vector<BlockKey> chain;  // [first + blocks]
  std::vector<TokenId> tokens;  // [16 * chain]
  int first = 0;
  std::vector<BlockId> blocks;  // to read into
};

class BlockTier {
 public:
  virtual ~BlockTier() = default;
  // How many blocks of the chain from `first` on it has, one after another.
  virtual int available(const BlockKey& root, std::span<const BlockKey> chain, int first) const = 0;
  // Whether reading so many blocks is faster than computing them, which takes compute_ms; 0 is not known.
  virtual bool worth_reading(int blocks, double compute_ms) const = 0;
  // Reads bytes into blocks, which stay reserved; Scheduler::restored(id, ...) tells the end.
  virtual void restore(std::uint64_t id, PoolRestore restore) = 0;
  // The blocks are not its any more: it writes no more of them.
  virtual void forget(std::uint64_t id) = 0;

  // Whether it has not the run that ends with this key.
  virtual bool wants(const BlockKey& last) const = 0;
  // Takes a run over, with one reference to each of its blocks, which it releases when it has read them.
  virtual void keep(PoolRun run) = 0;
  // Room is short: gives back all references to what it has not read yet. False when there were none.
  virtual bool give_up() = 0;
};

}  // namespace cortex
