// Attention of some rows over the keys and values of one head, as the kernels take it (kernels.h). Keys and values are
// bfloat16 in blocks of 16 positions, laid out so that a vector is 16 positions of a key or 16 elements of a value:
//   keys    [head_dim / 2][16 positions][2 elements]
//   values  [8 pairs of positions][padded_dim elements][2 positions], padded_dim = head_dim rounded up to 16
// A row's result depends on nothing but its query and what it may see: positions pass in tiles of 128 at multiples of
// 128, ascending, by an online softmax (Milakov, Gimelshein 2018); whatever else is in the task changes no bit of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cortex {

inline constexpr int kTilePositions = 128;
inline constexpr int kAttentionRows = 48;  // at most, in a task

constexpr int padded_head_dim(int head_dim) { return (head_dim + 15) / 16 * 16; }

struct AttentionRow {
  const float* query = nullptr;  // [head_dim]
  float* out = nullptr;          // [head_dim]
  int first = 0, last = 0;       // the positions that it sees, both included
};

struct AttentionTask {
  const std::uint16_t* const* keys = nullptr;    // [blocks]: block b holds positions 16b to 16b + 15
  const std::uint16_t* const* values = nullptr;  // [blocks]; those that no row sees may be null
  int head_dim = 0;                              // even, at most 256
  float scale = 1.0f;                            // multiplies query . key
  const AttentionRow* rows = nullptr;            // [count]
  int count = 0;                                 // 1..kAttentionRows
  float* scratch = nullptr;                      // [attention_scratch_floats(head_dim)], 64-byte aligned
};

// Floats of scratch: scores of a tile, sums of values, queries rounded to bfloat16, a maximum and a sum a row.
constexpr std::size_t attention_scratch_floats(int head_dim) {
  const auto dim = static_cast<std::size_t>(padded_head_dim(head_dim));
  return kAttentionRows * (kTilePositions + dim + dim / 2 + kTilePositions / 2 + 32);
}

}  // namespace cortex
