// Which runs of blocks are on disk: found by the keys of a prompt, evicted the longest unused first, but never before
// those that continue them. Pure bookkeeping, rebuilt from the files' headers at every start; its owner locks.
//
// Invariants:
//   1. a key is the last of at most one file;
//   2. bytes() is the sum of what the files were added with;
//   3. a file whose last key is the parent of another's first is not a victim.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kv/block_file.h"
#include "kv/block_hash.h"

namespace cortex {

class DiskIndex {
 public:
  struct Name {
    BlockKey root, last_key;
  };
  struct Match {
    Name name;
    int blocks = 0;  // leading ones of the run that the file has
  };

  // A file as an earlier process left it, or one that has just been written. `keys` [1..kBlocksPerFile]. One with the
  // same last key takes the other's place.
  void add(const Name& name, const BlockKey& parent, std::span<const BlockKey> keys, std::uint64_t bytes,
           std::chrono::system_clock::time_point modified);
  void add(const Name& name, const BlockKey& parent, std::span<const BlockKey> keys, std::uint64_t bytes);
  void remove(const BlockKey& last_key);
  // It is the last to be evicted now.
  void use(const BlockKey& last_key);

  bool has(const BlockKey& last_key) const { return files_.contains(last_key); }
  bool has(const Name& name) const {
    const auto found = files_.find(name.last_key);
    return found != files_.end() && found->second.root == name.root;
  }
  // The file that has most of the run's leading blocks. `keys` [1..kBlocksPerFile], from a multiple of kBlocksPerFile
  // on.
  std::optional<Match> find(std::span<const BlockKey> keys) const;
  // A file that has some of the run's leading blocks and no others: the run makes it superfluous.
  std::optional<Name> find_shorter(std::span<const BlockKey> keys) const;
  std::optional<Name> victim() const;

  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t files() const { return files_.size(); }

 private:
  // The beginnings of a run's keys, 0 behind the last: in their order, runs that begin alike are neighbours, and the
  // one that shares most with another is next to where that would stand.
  using Beginnings = std::array<std::uint64_t, kBlocksPerFile>;
  // When it was used: before this process began, by the wall clock, or since then, by a counter no clock can turn back.
  struct Use {
    bool by_us = false;
    std::int64_t order = 0;
    auto operator<=>(const Use&) const = default;
  };
  struct File {
    BlockKey root, parent;
    Beginnings beginnings;
    std::uint64_t bytes = 0;
    Use use;
  };

  static Beginnings beginnings_of(std::span<const BlockKey> keys);
  void add(const Name& name, const BlockKey& parent, std::span<const BlockKey> keys, std::uint64_t bytes, Use use);
  bool continued(const BlockKey& last_key) const { return children_.contains(last_key); }

  std::unordered_map<BlockKey, File, BlockKeyHash> files_;              // by last key
  std::map<Beginnings, BlockKey> runs_;                                 // their last keys
  std::unordered_map<BlockKey, std::uint32_t, BlockKeyHash> children_;  // files by their parent
  std::set<std::pair<Use, BlockKey>> victims_;                          // files that nothing continues
  std::uint64_t bytes_ = 0;
  std::int64_t uses_ = 0;
};

}  // namespace cortex
