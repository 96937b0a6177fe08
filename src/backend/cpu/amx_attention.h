// Attention with AMX: up to sixteen rows at a time by a block of keys, then their weights by a block of values.
// Included by amx.cpp, nobody else; attention_loops.h is the plain twin. AMX gives a row the same sums whatever rows
// are beside it, so all rows pass here, however few there are. What a row doesn't see has a weight of 0, which adds
// nothing, unless it is not finite: then each row that it spoiled passes alone, over values without what it doesn't
// see.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/amx_tiles.h"
#include "backend/cpu/attention_task.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/loops.h"

namespace cortex {
namespace {

constexpr int kBlockPositions = 16;
constexpr int kTileBlocks = kTilePositions / kBlockPositions;
constexpr int kStepDims = 32;  // that AMX multiplies at once
constexpr float kNoScore = -__builtin_inff();

// What a task keeps of its rows from tile to tile. Those that fill up a group are zeros.
struct AmxRows {
  alignas(64) float largest[kAttentionRows];      // score so far, in powers of two
  alignas(64) float weights[kAttentionRows][16];  // their sum, position i in lane i / 2 mod 16
  std::byte* queries;                             // [rows][head_dim], bfloat16
  float* sums;                                    // [rows][head_dim], of values times weights
};

// Rows that pass over a tile together.
struct AmxGroup {
  int first, count;                       // rows of the task
  int begin[kTileRows], end[kTileRows];   // the positions that each sees: [begin, end), begin == end when none
  int blocks[kTileBlocks], block_count;   // those that some row sees, ascending
  bool edges;                             // some row doesn't see all of them
  const std::byte* values[kTileBlocks];   // by block
  alignas(64) float largest[kTileRows];   // score so far, in powers of two
  alignas(64) float shrink[kTileRows];    // of earlier sums, for the new largest score
  alignas(64) float sums[kTileRows][16];  // of the tile's weights
  alignas(64) float scores[kTileRows][kTilePositions];
  alignas(64) std::uint16_t weights[kTileRows][kTilePositions];  // bfloat16
  alignas(64) float products[kTileRows * kMostHeadDim];          // [rows][head_dim]: weights times values
};

// Tiles 0 and 1 are sums, 2 and 3 keys, 4 queries; 5 weights, 6 and 7 values.
CORTEX_INLINE TileConfig attention_config(int rows) {
  TileConfig config;
  config.shape(0, rows, 64);
  config.shape(1, rows, 64);
  config.shape(2, kStepDims / 2, 64);
  config.shape(3, kStepDims / 2, 64);
  config.shape(4, rows, 64);
  config.shape(5, rows, 2 * kBlockPositions);
  config.shape(6, kBlockPositions / 2, 64);
  config.shape(7, kBlockPositions / 2, 64);
  return config;
}

CORTEX_INLINE std::uint64_t ones_below(int bit) {
  return bit <= 0 ? 0 : bit >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bit) - 1;
}

// 2^x within 2^-18 of itself, 1 exactly for 0 and nothing for -infinity: the power of two below, and a polynomial (the
// one of its degree that is least wrong, and right at 0) on the rest. NaN stays NaN.
CORTEX_INLINE __m512 power_of_two(__m512 x) {
  constexpr int kAboveFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const __m512 rest = _mm512_reduce_ps(x, kAboveFloor);
  __m512 p = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.013426685705780983f), _mm512_set1_ps(0.052242472767829895f));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.2412802129983902f));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.6930448412895203f));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, x);
}

// Scores, unscaled, of the group's rows for the blocks that some row sees, two at a time.
CORTEX_INLINE void score_blocks(const AttentionTask& task, int start, const AmxRows& rows, AmxGroup& group) {
  const std::ptrdiff_t stride = std::ptrdiff_t{2} * task.head_dim;
  const std::ptrdiff_t apart = kTilePositions * sizeof(float);
  const std::byte* queries = rows.queries + group.first * stride;
  const std::uint16_t* const* keys = task.keys + start / kBlockPositions;
  for (int next = 0; next < group.block_count; next += 2) {
    const bool two = next + 1 < group.block_count;
    const int first = group.blocks[next], second = group.blocks[two ? next + 1 : next];
    const auto* first_keys = reinterpret_cast<const std::byte*>(keys[first]);
    const auto* second_keys = reinterpret_cast<const std::byte*>(keys[second]);
    CORTEX_TILE_ZERO(0);
    CORTEX_TILE_ZERO(1);
    for (std::ptrdiff_t d = 0; d < task.head_dim; d += kStepDims) {
      CORTEX_TILE_LOAD(4, queries + 2 * d, stride);
      CORTEX_TILE_LOAD(2, first_keys + 2 * kBlockPositions * d, 64);
      CORTEX_TILE_BF16(0, 4, 2);
      if (two) {
        CORTEX_TILE_LOAD(3, second_keys + 2 * kBlockPositions * d, 64);
        CORTEX_TILE_BF16(1, 4, 3);
      }
    }
    CORTEX_TILE_STORE(0, &group.scores[0][kBlockPositions * first], apart);
    if (two) CORTEX_TILE_STORE(1, &group.scores[0][kBlockPositions * second], apart);
  }
}

// Turns the scores of a row into weights, 2^(score - largest), rounded; 0 where the row doesn't see. kPairs pairs of
// blocks hold all that some row sees.
template <int kPairs>
CORTEX_INLINE void weigh_row(AmxGroup& group, int row, float scale) {
  const int begin = group.begin[row], end = group.end[row];
  const std::uint64_t seen[2] = {ones_below(end) & ~ones_below(begin), ones_below(end - 64) & ~ones_below(begin - 64)};
  __m512 scores[2 * kPairs];
  __m512 largest = _mm512_set1_ps(kNoScore);
#pragma GCC unroll 8
  for (int block = 0; block < 2 * kPairs; ++block) {  // a score that is NaN is passed over
    const auto lanes = static_cast<__mmask16>(seen[block / 4] >> (block % 4 * kBlockPositions));
    scores[block] = _mm512_mask_load_ps(_mm512_set1_ps(kNoScore), lanes, group.scores[row] + kBlockPositions * block);
    largest = _mm512_max_ps(scores[block], largest);
  }
  const float before = group.largest[row];
  const float in_tile = _mm512_reduce_max_ps(largest) * scale;
  const float now = in_tile > before ? in_tile : before;
  group.largest[row] = now;
  // The same for all scores of the row that have this largest one, so however it is rounded, it cancels out.
  const __m512 subtracted = _mm512_set1_ps(now == kNoScore ? 0.0f : now);
  group.shrink[row] = before - _mm512_cvtss_f32(subtracted);
  const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 4
  for (int pair = 0; pair < kPairs; ++pair) {
    const __m512 low = power_of_two(_mm512_fmsub_ps(scores[2 * pair], _mm512_set1_ps(scale), subtracted));
    const __m512 high = power_of_two(_mm512_fmsub_ps(scores[2 * pair + 1], _mm512_set1_ps(scale), subtracted));
    const __m512bh weights = _mm512_cvtne2ps_pbh(high, low);
    _mm512_store_si512(group.weights[row] + 2 * kBlockPositions * pair, reinterpret_cast<__m512i>(weights));
    sum = _mm512_dpbf16_ps(sum, weights, ones);
  }
  _mm512_store_ps(group.sums[row], sum);
}

template <int kPairs>
void weigh(AmxGroup& group, float scale) {
  for (int row = 0; row < group.count; ++row) weigh_row<kPairs>(group, row, scale);
  _mm512_store_ps(group.shrink, power_of_two(_mm512_load_ps(group.shrink)));
}

// Products of the group's weights, from `weights` on, with the values of the blocks.
CORTEX_INLINE void multiply_values(const AmxGroup& group, int head_dim, const std::uint16_t* weights, float* products) {
  const std::ptrdiff_t stride = std::ptrdiff_t{4} * head_dim;
  for (std::ptrdiff_t d = 0; d < head_dim; d += 32) {
    CORTEX_TILE_ZERO(0);
    CORTEX_TILE_ZERO(1);
    for (int next = 0; next < group.block_count; ++next) {
      const int block = group.blocks[next];
      const std::byte* values = group.values[block] + 4 * d;
      CORTEX_TILE_LOAD(5, weights + kBlockPositions * block, 2 * kTilePositions);
      CORTEX_TILE_LOAD(6, values, stride);
      CORTEX_TILE_BF16(0, 5, 6);
      CORTEX_TILE_LOAD(7, values + 64, stride);
      CORTEX_TILE_BF16(1, 5, 7);
    }
    CORTEX_TILE_STORE(0, products + d, stride);
    CORTEX_TILE_STORE(1, products + d + 16, stride);
  }
}

CORTEX_INLINE bool all_finite(const float* values, int count) {
  constexpr int kNaNOrInfinity = 0x99;  // classes: quiet NaN, the infinities, signalling NaN
  __mmask16 found = 0;
  for (int i = 0; i < count; i += 16) {
    found = static_cast<__mmask16>(found | _mm512_fpclass_ps_mask(_mm512_loadu_ps(values + i), kNaNOrInfinity));
  }
  return found == 0;
}

// The products of one row, over copies of the blocks that it sees in part.
void multiply_values_alone(const AmxGroup& group, int head_dim, int row, float* products) {
  alignas(64) std::uint16_t copies[2][kBlockPositions * kMostHeadDim];
  AmxGroup alone;
  alone.block_count = 0;
  const int begin = group.begin[row], end = group.end[row];
  for (int block = begin / kBlockPositions; kBlockPositions * block < end; ++block) {
    alone.blocks[alone.block_count++] = block;
    alone.values[block] = group.values[block];
    const int start = kBlockPositions * block;
    if (begin <= start && end >= start + kBlockPositions) continue;
    std::uint16_t* copy = copies[block == begin / kBlockPositions ? 0 : 1];
    std::memcpy(copy, group.values[block],
                sizeof(std::uint16_t) * kBlockPositions * static_cast<std::size_t>(head_dim));
    for (int i = 0; i < kBlockPositions * head_dim; ++i) {
      const int position = start + i / (2 * head_dim) * 2 + i % 2;
      if (position < begin || position >= end) copy[i] = 0;
    }
    alone.values[block] = reinterpret_cast<const std::byte*>(copy);
  }
  multiply_values(alone, head_dim, group.weights[row], products);
}

// Adds the tile's products to the sums.
CORTEX_INLINE void add_products(const AmxGroup& group, int head_dim, AmxRows& rows) {
  for (int row = 0; row < group.count; ++row) {
    const __m512 shrink = _mm512_set1_ps(group.shrink[row]);
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(group.first + row) * head_dim;
    const float* products = group.products + static_cast<std::ptrdiff_t>(row) * head_dim;
    for (std::ptrdiff_t d = 0; d < head_dim; d += 16) {
      float* sums = rows.sums + at + d;
      _mm512_store_ps(sums, _mm512_fmadd_ps(_mm512_load_ps(sums), shrink, _mm512_load_ps(products + d)));
    }
    float* weights = rows.weights[group.first + row];
    _mm512_store_ps(weights, _mm512_fmadd_ps(_mm512_load_ps(weights), shrink, _mm512_load_ps(group.sums[row])));
    rows.largest[group.first + row] = group.largest[row];
  }
}

// What the rows of a group see of the tile from `start` on.
CORTEX_INLINE void find_seen(const AttentionTask& task, int start, const AmxRows& rows, AmxGroup& group) {
  unsigned seen = 0, seen_by_all = ~0u;
  for (int row = 0; row < group.count; ++row) {
    const AttentionRow& of_task = task.rows[group.first + row];
    int begin = of_task.first > start ? of_task.first - start : 0;
    int end = of_task.last - start < kTilePositions ? of_task.last - start + 1 : kTilePositions;
    if (begin >= end) begin = end = 0;
    group.begin[row] = begin;
    group.end[row] = end;
    group.largest[row] = rows.largest[group.first + row];
    seen |= (1u << ((end + kBlockPositions - 1) / kBlockPositions)) - (1u << (begin / kBlockPositions));
    const int first_whole = (begin + kBlockPositions - 1) / kBlockPositions, end_whole = end / kBlockPositions;
    seen_by_all &= first_whole < end_whole ? (1u << end_whole) - (1u << first_whole) : 0u;
  }
  group.block_count = 0;
  group.edges = seen != seen_by_all;
  for (int block = 0; seen >> block != 0; ++block) {
    if ((seen >> block & 1u) == 0) continue;
    group.blocks[group.block_count++] = block;
    group.values[block] = reinterpret_cast<const std::byte*>(task.values[start / kBlockPositions + block]);
  }
}

CORTEX_INLINE void attend_group(const AttentionTask& task, int start, AmxRows& rows, AmxGroup& group, TileScope& tiles,
                                const TileConfig& config) {
  find_seen(task, start, rows, group);
  if (group.block_count == 0) return;
  score_blocks(task, start, rows, group);
  constexpr void (*kWeigh[])(AmxGroup&, float) = {weigh<1>, weigh<2>, weigh<3>, weigh<4>};
  constexpr float kLog2OfE = 1.44269504088896341f;
  kWeigh[group.blocks[group.block_count - 1] / 2](group, task.scale * kLog2OfE);
  multiply_values(group, task.head_dim, group.weights[0], group.products);
  if (group.edges && !all_finite(group.products, group.count * task.head_dim)) {
    const TileConfig one_row = attention_config(1);
    tiles.configure(one_row);
    for (int row = 0; row < group.count; ++row) {
      float* products = group.products + static_cast<std::ptrdiff_t>(row) * task.head_dim;
      if (!all_finite(products, task.head_dim)) multiply_values_alone(group, task.head_dim, row, products);
    }
    tiles.configure(config);
  }
  add_products(group, task.head_dim, rows);
}

CORTEX_INLINE void start_row(const AttentionTask& task, AmxRows& rows, int row) {
  rows.largest[row] = kNoScore;
  _mm512_store_ps(rows.weights[row], _mm512_setzero_ps());
  const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(row) * task.head_dim;
  for (std::ptrdiff_t d = 0; d < task.head_dim; d += kStepDims) {
    __m512 low = _mm512_setzero_ps(), high = low;
    if (row < task.count) {
      low = _mm512_loadu_ps(task.rows[row].query + d);
      high = _mm512_loadu_ps(task.rows[row].query + d + 16);
    }
    _mm512_store_si512(rows.queries + 2 * (at + d), reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
    _mm512_store_ps(rows.sums + at + d, _mm512_setzero_ps());
    _mm512_store_ps(rows.sums + at + d + 16, _mm512_setzero_ps());
  }
}

CORTEX_INLINE void end_row(const AttentionTask& task, const AmxRows& rows, int row) {
  const __m512 sum = _mm512_set1_ps(_mm512_reduce_add_ps(_mm512_load_ps(rows.weights[row])));
  const float* sums = rows.sums + static_cast<std::ptrdiff_t>(row) * task.head_dim;
  for (std::ptrdiff_t d = 0; d < task.head_dim; d += 16) {
    // -0 depends on what isn't seen; a sum with 0 is 0.
    const __m512 result = _mm512_add_ps(_mm512_div_ps(_mm512_load_ps(sums + d), sum), _mm512_setzero_ps());
    _mm512_storeu_ps(task.rows[row].out + d, result);
  }
}

void attend_amx(const AttentionTask& task) {
  if (task.head_dim % kStepDims != 0) return kAvx512Kernels.attend(task);
  // Nearly equal groups: 33 rows are three of 11.
  const int groups = (task.count + kTileRows - 1) / kTileRows;
  const int group_rows = (task.count + groups - 1) / groups;
  AmxRows rows;
  rows.sums = task.scratch;
  rows.queries = reinterpret_cast<std::byte*>(task.scratch + std::ptrdiff_t{kAttentionRows} * task.head_dim);
  for (int row = 0; row < groups * group_rows; ++row) start_row(task, rows, row);
  int first = task.rows[0].first, last = task.rows[0].last;
  for (int row = 1; row < task.count; ++row) {
    first = task.rows[row].first < first ? task.rows[row].first : first;
    last = task.rows[row].last > last ? task.rows[row].last : last;
  }
  const TileConfig config = attention_config(group_rows);
  TileScope tiles(config);
  AmxGroup group;
  for (int start = first / kTilePositions * kTilePositions; start <= last; start += kTilePositions) {
    for (group.first = 0; group.first < task.count; group.first += group_rows) {
      group.count = task.count - group.first < group_rows ? task.count - group.first : group_rows;
      attend_group(task, start, rows, group, tiles, config);
    }
  }
  for (int row = 0; row < task.count; ++row) end_row(task, rows, row);
}

}  // namespace
}  // namespace cortex
