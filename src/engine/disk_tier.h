// The disk store as the tier below one decoder's pool: moves bytes between the device's blocks and the store, a run at
// a time, between steps. What it keeps waits in the pool, referenced, until its turn has come or room is short. Owned
// by the model's slot, the engine thread only; the store's answers come to it through the engine's inbox.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "engine/block_tier.h"
#include "kv/block_pool.h"
#include "kv/disk_store.h"

namespace cortex {

class DiskTier : public BlockTier {
 public:
  // The next part of a restore, which the store has read.
  struct Part {
    std::uint64_t restore = 0;
    BlockReadResult read;
  };
  // A restore that is over, with as many of its first blocks as are in their place.
  struct Restored {
    std::uint64_t restore = 0;
    int blocks = 0;
  };

  // All outlive it. `post` is called on the store's thread and brings the part to take().
  DiskTier(DiskStore* store, DecoderBackend* decoder, BlockPool* pool, std::function<void(Part)> post);

  int available(const BlockKey& root, std::span<const BlockKey> chain, int first) const override;
  bool worth_reading(int blocks, double compute_ms) const override;
  void restore(std::uint64_t id, PoolRestore asked) override;
  void forget(std::uint64_t id) override { restores_.erase(id); }
  bool wants(const BlockKey& last) const override;
  void keep(PoolRun run) override { kept_.push_back(std::move(run)); }
  bool give_up() override;

  // Puts the part's blocks into their place. The restore, when this was its last.
  std::optional<Restored> take(const Part& part);
  // Hands the next run that it keeps to the store. False when there is none.
  bool write_next();

 private:
  // Runs are read one after another, kPartsAhead of them before the first is in its place: enough for the store to be
  // busy, few enough for their buffers to be used again.
  struct Restore {
    PoolRestore asked;
    std::vector<int> parts;  // blocks of each
    std::size_t requested = 0, come = 0;
    int written = 0;      // blocks
    bool broken = false;  // what follows is of no use
  };

  void request_next(std::uint64_t id, Restore* restore);
  void write(const BlockReadResult& read, int wanted, Restore* restore);

  DiskStore* const store_;
  DecoderBackend* const decoder_;
  BlockPool* const pool_;
  const std::function<void(Part)> post_;
  const std::size_t block_bytes_;
  std::map<std::uint64_t, Restore> restores_;
  std::deque<PoolRun> kept_;
};

}  // namespace cortex
