// Attention of some rows over the keys and values of one head, as the kernels take it (kernels.h). Keys and values are
// bfloat16 in blocks of 16 positions, laid out so that a vector is 16 positions of a key or 16 elements of a value:
//   keys    [head_dim / 2][16 positions][2 elements]
//   values  [8 pairs of positions][padded_dim elements][2 positions], padded_dim = head_dim rounded up to 16
// A row's result depends on nothing but its query and what it may see: positions pass in tiles of 128 at multiples of
// 128, ascending, by an online softmax (Milakov, Gimelshein 2018); whatever else is in the task changes no bit of it,
// nor does what lies at positions that it doesn't see, NaN included. Queries and weights are rounded to bfloat16, and
// the weights are divided by the sum of what they were rounded to, so they add up to one. NaN in a query, a key or a
// value that is seen is NaN in the result; infinity is infinity or NaN, but for a score of -infinity, which weighs
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cortex {

inline constexpr int kTilePositions = 128;
inline constexpr int kAttentionRows = 48;  // at most, in a task
inline constexpr int kMostHeadDim = 256;

constexpr int padded_head_dim(int head_dim) { return (head_dim + 15) / 16 * 16; }

struct AttentionRow {
  const float* query = nullptr;  // [head_dim]
  float* out = nullptr;          // [head_dim]
  int first = 0, last = 0;       // the positions that it sees, both included, at least one
};

struct AttentionTask {
  const std::uint16_t* const* keys = nullptr;    // [blocks]: block b holds positions 16b to 16b + 15
  const std::uint16_t* const* values = nullptr;  // [blocks]; those that no row sees may be null
  int head_dim = 0;                              // even, at most kMostHeadDim
  float scale = 1.0f;                            // multiplies query . key; above 0
  const AttentionRow* rows = nullptr;            // [count]; neighbours that see the same go faster
  int count = 0;                                 // 1..kAttentionRows
  float* scratch = nullptr;                      // [attention_scratch_floats(head_dim)], 64-byte aligned
};

// Floats of scratch: sums of values and queries rounded to bfloat16, a sum of weights and a maximum a row.
constexpr std::size_t attention_scratch_floats(int head_dim) {
  const auto dim = static_cast<std::size_t>(padded_head_dim(head_dim));
  return kAttentionRows * (dim + dim / 2 + 16);
}

}  // namespace cortex
