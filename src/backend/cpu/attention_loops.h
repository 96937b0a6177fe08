// Attention as plain loops, a row at a time: the twin of avx512_attention.h, and what processors without BF16 use.
// Products and sums are rounded one by one, the second element of a pair first. Included by the file of each
// instruction set after loops.h, nobody else.
#pragma once

#include "backend/cpu/attention_task.h"
#include "backend/cpu/loops.h"

namespace cortex {
namespace {

// The low or the high halves of 16 pairs of bfloat16.
struct PairLanes {
  Lanes low, high;
};

CORTEX_INLINE PairLanes load_bf16_pairs(const std::uint16_t* from) {
  LaneBits bits;
  std::memcpy(&bits, from, sizeof bits);
  const LaneBits low = bits << 16;
  const LaneBits high = bits & static_cast<std::int32_t>(0xffff0000u);
  PairLanes pairs;
  std::memcpy(&pairs.low, &low, sizeof low);
  std::memcpy(&pairs.high, &high, sizeof high);
  return pairs;
}

// To the nearest bfloat16, ties to even; NaN stays NaN.
CORTEX_INLINE Lanes rounded_to_bf16(Lanes values) {
  LaneBits bits;
  std::memcpy(&bits, &values, sizeof bits);
  const LaneBits nan = (bits & 0x7fffffff) > 0x7f800000;
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & static_cast<std::int32_t>(0xffff0000u);
  Lanes rounded;
  std::memcpy(&rounded, &bits, sizeof bits);
  return nan ? values : rounded;
}

// One row while the tiles pass.
struct PlainAttention {
  float query[kMostHeadDim];           // rounded
  Lanes sums[kMostHeadDim / kLanes];   // of values times weights
  float weights[kLanes / 2];           // their sum, position i in lane i / 2 mod 8
  float largest;                       // score so far
  float tile_weights[kTilePositions];  // scores, then weights
};

CORTEX_INLINE void score_block(const AttentionTask& task, const std::uint16_t* keys, const float* query,
                               float* scores) {
  Lanes sum = {};
  for (std::ptrdiff_t d = 0; d < task.head_dim; d += 2) {
    const PairLanes elements = load_bf16_pairs(keys + kLanes * d);
    sum += elements.high * query[d + 1];
    sum += elements.low * query[d];
  }
  store(scores, sum * task.scale);
}

constexpr float kLeastScore = -__builtin_inff();

// Turns the scores of a block into weights, less `subtracted`; 0 outside [begin, end), or where the score is -infinity.
CORTEX_INLINE void weigh_block(PlainAttention& row, float subtracted, std::ptrdiff_t block, int begin, int end) {
  float* at = row.tile_weights + kLanes * block;
  float weights[kLanes];
  store(weights, rounded_to_bf16(exp_of(load(at) - subtracted)));
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::ptrdiff_t position = kLanes * block + lane;
    at[lane] = position >= begin && position < end && at[lane] != kLeastScore ? weights[lane] : 0.0f;
  }
  for (std::ptrdiff_t lane = 0; lane < kLanes / 2; ++lane) {
    row.weights[lane] += at[2 * lane + 1];
    row.weights[lane] += at[2 * lane];
  }
}

// Values of a pair of positions times their weights. What isn't seen isn't multiplied even by 0.
CORTEX_INLINE void add_pair(PlainAttention& row, const std::uint16_t* values, int vectors, std::ptrdiff_t pair,
                            int begin, int end) {
  const float* weights = row.tile_weights + 2 * pair;
  const bool low = 2 * pair >= begin, high = 2 * pair + 1 < end;
  for (int v = 0; v < vectors; ++v) {
    const PairLanes elements = load_bf16_pairs(values + std::ptrdiff_t{2} * kLanes * v);
    if (high) row.sums[v] += elements.high * weights[1];
    if (low) row.sums[v] += elements.low * weights[0];
  }
}

// The tile from `start` on, of which the row sees positions [begin, end).
CORTEX_INLINE void attend_tile_loops(const AttentionTask& task, PlainAttention& row, int start, int begin, int end) {
  const std::uint16_t* const* keys = task.keys + start / kLanes;
  const std::uint16_t* const* values = task.values + start / kLanes;
  const int vectors = padded_head_dim(task.head_dim) / kLanes;
  const int first_block = begin / kLanes, last_block = (end - 1) / kLanes;
  for (std::ptrdiff_t block = first_block; block <= last_block; ++block) {
    score_block(task, keys[block], row.query, row.tile_weights + kLanes * block);
  }
  const float before = row.largest;
  for (int position = begin; position < end; ++position) {  // a score that is NaN is passed over
    const float score = row.tile_weights[position];
    row.largest = score > row.largest ? score : row.largest;
  }
  const float subtracted = row.largest == kLeastScore ? 0.0f : row.largest;
  const float shrink = exp_of(broadcast(before - subtracted))[0];
  for (float& weight : row.weights) weight *= shrink;
  for (int v = 0; v < vectors; ++v) row.sums[v] *= shrink;
  for (std::ptrdiff_t block = first_block; block <= last_block; ++block)
    weigh_block(row, subtracted, block, begin, end);
  const std::ptrdiff_t pair_elements = std::ptrdiff_t{2} * kLanes * vectors;
  for (std::ptrdiff_t pair = begin / 2; pair <= (end - 1) / 2; ++pair) {
    add_pair(row, values[pair / 8] + pair % 8 * pair_elements, vectors, pair, begin, end);
  }
}

CORTEX_INLINE void attend_row_loops(const AttentionTask& task, const AttentionRow& row) {
  PlainAttention state = {};
  state.largest = kLeastScore;
  for (int d = 0; d < task.head_dim; d += kLanes) {
    const int count = task.head_dim - d < kLanes ? task.head_dim - d : kLanes;
    store(state.query + d, rounded_to_bf16(load_some(row.query + d, count)));
  }
  for (int start = row.first / kTilePositions * kTilePositions; start <= row.last; start += kTilePositions) {
    const int begin = row.first > start ? row.first - start : 0;
    const int end = row.last - start < kTilePositions ? row.last - start + 1 : kTilePositions;
    attend_tile_loops(task, state, start, begin, end);
  }
  const float* lanes = state.weights;
  const float sum = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
  for (int d = 0; d < task.head_dim; d += kLanes) {
    const int count = task.head_dim - d < kLanes ? task.head_dim - d : kLanes;
    store_some(row.out + d, state.sums[d / kLanes] / sum, count);
  }
}

void attend_loops(const AttentionTask& task) {
  for (int row = 0; row < task.count; ++row) attend_row_loops(task, task.rows[row]);
}

void keep_loops(const float* key, const float* value, int head_dim, int position, std::uint16_t* keys,
                std::uint16_t* values) {
  std::uint16_t rounded[kMostHeadDim];
  round_to_bf16(key, static_cast<std::size_t>(head_dim), rounded);
  for (std::ptrdiff_t d = 0; d < head_dim; d += 2) {
    std::memcpy(keys + kLanes * d + std::ptrdiff_t{2} * position, rounded + d, 2 * sizeof(std::uint16_t));
  }
  round_to_bf16(value, static_cast<std::size_t>(head_dim), rounded);
  std::uint16_t* to = values + std::ptrdiff_t{position} / 2 * 2 * padded_head_dim(head_dim) + position % 2;
  for (std::ptrdiff_t d = 0; d < head_dim; ++d) to[2 * d] = rounded[d];
}

}  // namespace
}  // namespace cortex
