// Indices into MLX arrays. MLX checks no index on any device (a bad one reads or writes foreign memory), so this is the
// only maker of index arrays and the only file that gathers or scatters. Used by the engine thread.
#pragma once

#include <mlx/mlx.h>

#include <cstdint>
#include <span>

namespace cortex {

namespace mx = ::mlx::core;

class CheckedIds {
 public:
  // Throws CheckFailure unless every id is in 0..bound - 1.
  CheckedIds(std::span<const std::int32_t> ids, std::int64_t bound);

 private:
  friend mx::array take(const mx::array& from, const CheckedIds& ids, int axis);
  friend mx::array put(const mx::array& into, const CheckedIds& ids, const mx::array& updates, int axis);

  std::int64_t bound_;
  mx::array array_;  // [n] int32
};

// The entries of `from` at `ids` along `axis`.
mx::array take(const mx::array& from, const CheckedIds& ids, int axis);

// `into` with the entries at `ids` along `axis` replaced by `updates`, which has one more dimension: ids first, then
// into's with 1 at `axis`. In place where nobody else holds or reads `into`.
mx::array put(const mx::array& into, const CheckedIds& ids, const mx::array& updates, int axis);

}  // namespace cortex
