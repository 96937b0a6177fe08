// The K and V of all sequences of one decoder, in blocks of kBlockTokens tokens. One array a layer for K and one for V,
// [kv_heads, blocks * kBlockTokens, head_dim]: a head's tokens lie together, so blocks with contiguous ids are read as
// a view. Owned by its decoder, used by the engine thread.
//
// Invariants:
//   1. The pool is the only holder of its arrays between steps, and no graph reads a value older than its last append:
//      then appends happen in place.
//   2. A slot is zero until it is written.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "backend/mlx/checked_ids.h"
#include "backend/step_plan.h"
#include "model/spec.h"

namespace cortex {

class PagedPool {
 public:
  explicit PagedPool(const DecoderSpec& spec);

  // Drops what there was and makes `blocks` zeroed blocks.
  void reserve(int blocks);
  int blocks() const { return blocks_; }
  std::size_t bytes() const;
  // Of a block as read_blocks gives it: [layers, 2 (K, V), kv_heads, kBlockTokens, head_dim].
  std::size_t block_bytes() const;

  // Where some positions of a sequence lie.
  struct Range {
    int tokens = 0;
    int first_slot = 0;                // of the first position, in the pool or, if gathered, in the gathered blocks
    std::optional<CheckedIds> blocks;  // what must be gathered; absent when the block ids are contiguous
  };
  // Positions [begin, end) of the sequence that owns `blocks`.
  Range locate(std::span<const BlockId> blocks, int begin, int end) const;
  // The slots of positions [begin, end), appended to `slots`.
  static void add_slots(std::span<const BlockId> blocks, int begin, int end, std::vector<std::int32_t>* slots);
  CheckedIds checked_slots(std::span<const std::int32_t> slots) const;

  // k and v [T, kv_heads, head_dim] become the content of slots [T].
  void append(int layer, const CheckedIds& slots, const mx::array& k, const mx::array& v);
  mx::array keys(int layer, const Range& range) const;    // [1, kv_heads, tokens, head_dim]
  mx::array values(int layer, const Range& range) const;  // likewise

  // The arrays themselves, to be evaluated at the end of a step.
  std::vector<mx::array> arrays() const;

  // `blocks` are checked already (plan_check.h); whole blocks, block_bytes() each. Evaluated when they return.
  void read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) const;
  void write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes);

 private:
  mx::array read(const mx::array& pool, const Range& range) const;

  int layers_, kv_heads_, head_dim_;
  int blocks_ = 0;
  std::vector<mx::array> keys_, values_;  // [layers]
};

}  // namespace cortex
