// Attention with AMX: up to sixteen rows at a time by two blocks of keys, then their weights by a block of values.
// Heads whose size is not a multiple of 32 are left to AVX-512. Included by amx.cpp, nobody else; attention_loops.h is
// the plain twin. AMX gives a row the same sums whatever rows are beside it, so all rows pass here, however few there
// are. What a row doesn't see has a weight of 0, which adds nothing, unless it is not finite: then each row that it
// spoiled passes alone, over values without what it doesn't see.
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

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): offsets inside a tile or a block are small.

constexpr int kBlockPositions = 16;
constexpr int kTileBlocks = kTilePositions / kBlockPositions;
constexpr int kStepDims = 32;  // that AMX multiplies at once
constexpr float kNoScore = -__builtin_inff();

// What a task keeps of its rows from tile to tile, in groups that pass together.
struct AmxRows {
  alignas(64) int first[kAttentionRows];  // position that each sees
  alignas(64) int last[kAttentionRows];
  alignas(64) float largest[kAttentionRows];      // score so far, in powers of two
  alignas(64) float weights[kAttentionRows][16];  // their sum, position i in lane i / 2 mod 16
  bool started[kAttentionRows / kTileRows] = {};  // groups that have seen something
  std::byte* queries;                             // [rows][head_dim], bfloat16
  float* sums;                                    // [rows][head_dim], of values times weights
};

// A group of rows over a tile. What belongs to rows that the group lacks is left as it is.
struct AmxGroup {
  int index, first, count;                   // of it, and its rows
  alignas(64) int begin[kTileRows];          // the positions of the tile that each sees: [begin, end)
  alignas(64) int end[kTileRows];            // 0 when none, as begin then
  int blocks[kTileBlocks], block_count;      // those that some row sees, ascending
  bool edges;                                // some row doesn't see all of them
  const std::byte* values[kTileBlocks];      // of the blocks, in the same order
  bool fetches;                              // for all groups, what comes next
  const std::byte* next_keys[kTileBlocks];   // of the tile after
  alignas(64) float largest[kTileRows][16];  // scores of each lane
  alignas(64) float subtracted[kTileRows];   // from the scores, in powers of two
  alignas(64) float shrink[kTileRows];       // of earlier sums, for the new largest score
  alignas(64) float sums[kTileRows][16];     // of the tile's weights
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

CORTEX_INLINE void prefetch(const std::byte* from, std::ptrdiff_t bytes) {
  for (std::ptrdiff_t at = 0; at < bytes; at += 64) _mm_prefetch(from + at, _MM_HINT_T0);
}

// Scores, unscaled, of the group's rows for the blocks that some row sees, two at a time. Their values are fetched
// meanwhile.
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
    if (group.fetches) prefetch(group.values[next], kBlockPositions * stride);
    if (group.fetches && two) prefetch(group.values[next + 1], kBlockPositions * stride);
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

// Lane r is the lanes of rows[r], put together by `join`: always in the same order.
template <typename Join>
CORTEX_INLINE __m512 join_lanes(const float (*rows)[16], Join join) {
  const auto halves = [&](int row) CORTEX_INLINE_LAMBDA {
    const __m512 a = _mm512_load_ps(rows[row]), b = _mm512_load_ps(rows[row + 4]);
    return join(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  };
  const auto quarters = [&](int row) CORTEX_INLINE_LAMBDA {
    const __m512 a = halves(row), b = halves(row + 8);
    return join(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  const auto pairs = [&](int row) CORTEX_INLINE_LAMBDA {
    const __m512d a = _mm512_castps_pd(quarters(row)), b = _mm512_castps_pd(quarters(row + 1));
    return join(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  };
  const __m512 a = pairs(0), b = pairs(2);
  return join(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

// Gives what a row doesn't see of the first kPairs pairs of blocks a score of -infinity.
template <int kPairs>
CORTEX_INLINE void hide_unseen(AmxGroup& group) {
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (int row = 0; row < group.count; ++row) {
    const __m512i begin = _mm512_set1_epi32(group.begin[row]), end = _mm512_set1_epi32(group.end[row]);
#pragma GCC unroll 8
    for (int block = 0; block < 2 * kPairs; ++block) {
      const __m512i position = _mm512_add_epi32(lane, _mm512_set1_epi32(kBlockPositions * block));
      const auto unseen =
          static_cast<__mmask16>(_mm512_cmplt_epi32_mask(position, begin) | _mm512_cmpge_epi32_mask(position, end));
      _mm512_mask_store_ps(group.scores[row] + kBlockPositions * block, unseen, _mm512_set1_ps(kNoScore));
    }
  }
}

// Turns scores into weights, 2^(score - largest), rounded. kPairs pairs of blocks hold all that some row sees.
template <int kPairs>
void weigh(AmxRows& rows, AmxGroup& group, float scale) {
  if (group.edges || group.block_count < 2 * kPairs) hide_unseen<kPairs>(group);
  for (int row = 0; row < group.count; ++row) {
    __m512 largest = _mm512_set1_ps(kNoScore);
#pragma GCC unroll 8
    for (int block = 0; block < 2 * kPairs; ++block) {  // a score that is NaN is passed over
      largest = _mm512_max_ps(_mm512_load_ps(group.scores[row] + kBlockPositions * block), largest);
    }
    _mm512_store_ps(group.largest[row], largest);
  }
  const auto larger = [](__m512 a, __m512 b) CORTEX_INLINE_LAMBDA { return _mm512_max_ps(a, b); };
  const __m512 scales = _mm512_set1_ps(scale);
  const __m512 before = _mm512_loadu_ps(rows.largest + group.first);
  const __m512 now = _mm512_max_ps(join_lanes(group.largest, larger) * scales, before);
  const auto found = _mm512_cmp_ps_mask(now, _mm512_set1_ps(kNoScore), _CMP_NEQ_UQ);
  // The same for all scores of a row that has this largest one, so however it is rounded, it cancels out.
  const __m512 subtracted = _mm512_maskz_mov_ps(found, now);
  const auto present = static_cast<__mmask16>((1u << group.count) - 1);
  _mm512_mask_storeu_ps(rows.largest + group.first, present, now);
  _mm512_store_ps(group.subtracted, subtracted);
  _mm512_store_ps(group.shrink, power_of_two(before - subtracted));
  const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  for (int row = 0; row < group.count; ++row) {
    const __m512 of_row = _mm512_set1_ps(group.subtracted[row]);
    __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int pair = 0; pair < kPairs; ++pair) {
      const float* scores = group.scores[row] + 2 * kBlockPositions * pair;
      const __m512 low = power_of_two(_mm512_fmsub_ps(_mm512_load_ps(scores), scales, of_row));
      const __m512 high = power_of_two(_mm512_fmsub_ps(_mm512_load_ps(scores + kBlockPositions), scales, of_row));
      const __m512bh weights = _mm512_cvtne2ps_pbh(high, low);
      _mm512_store_si512(group.weights[row] + 2 * kBlockPositions * pair, reinterpret_cast<__m512i>(weights));
      sum = _mm512_dpbf16_ps(sum, weights, ones);
    }
    _mm512_store_ps(group.sums[row], sum);
  }
}

// Products of the group's weights, from `weights` on, with the values of the blocks. The keys of the next tile are
// fetched meanwhile.
CORTEX_INLINE void multiply_values(const AmxGroup& group, int head_dim, const std::uint16_t* weights, float* products) {
  const std::ptrdiff_t stride = std::ptrdiff_t{4} * head_dim;
  const int count = group.block_count;
  for (std::ptrdiff_t d = 0; d < head_dim; d += 32) {
    CORTEX_TILE_ZERO(0);
    CORTEX_TILE_ZERO(1);
    for (int i = 0; i < count; ++i) {
      const std::byte* values = group.values[i] + 4 * d;
      if (group.fetches) prefetch(group.next_keys[i] + kBlockPositions * 2 * d, kBlockPositions * 2 * kStepDims);
      CORTEX_TILE_LOAD(5, weights + kBlockPositions * group.blocks[i], 2 * kTilePositions);
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
  alone.fetches = false;
  alone.block_count = 0;
  const int begin = group.begin[row], end = group.end[row];
  for (int i = 0; i < group.block_count; ++i) {
    const int block = group.blocks[i], start = kBlockPositions * block;
    if (start >= end || start + kBlockPositions <= begin) continue;
    const int at = alone.block_count++;
    alone.blocks[at] = block;
    alone.values[at] = group.values[i];
    if (begin <= start && end >= start + kBlockPositions) continue;
    std::uint16_t* copy = copies[block == begin / kBlockPositions ? 0 : 1];
    std::memcpy(copy, group.values[i], sizeof(std::uint16_t) * kBlockPositions * static_cast<std::size_t>(head_dim));
    for (int e = 0; e < kBlockPositions * head_dim; ++e) {
      const int position = start + e / (2 * head_dim) * 2 + e % 2;
      if (position < begin || position >= end) copy[e] = 0;
    }
    alone.values[at] = reinterpret_cast<const std::byte*>(copy);
  }
  multiply_values(alone, head_dim, group.weights[row], products);
}

// Adds the tile's products to the sums of earlier tiles, or starts those.
template <bool kStarts>
CORTEX_INLINE void add_products(const AmxGroup& group, int head_dim, AmxRows& rows) {
  float* sums = rows.sums + static_cast<std::ptrdiff_t>(group.first) * head_dim;
  const float* products = group.products;
  for (int row = 0; row < group.count; ++row, sums += head_dim, products += head_dim) {
    const __m512 shrink = _mm512_set1_ps(group.shrink[row]);
    const auto add = [&](float* to, const float* from) CORTEX_INLINE_LAMBDA {
      const __m512 term = _mm512_load_ps(from);
      _mm512_store_ps(to, kStarts ? term : _mm512_fmadd_ps(_mm512_load_ps(to), shrink, term));
    };
    for (std::ptrdiff_t d = 0; d < head_dim; d += 16) add(sums + d, products + d);
    add(rows.weights[group.first + row], group.sums[row]);
  }
}

// What the rows of a group see of the tile from `start` on.
CORTEX_INLINE void find_seen(const AttentionTask& task, int start, int last_block, const AmxRows& rows,
                             AmxGroup& group) {
  const auto present = static_cast<__mmask16>((1u << group.count) - 1);
  const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1), starts = _mm512_set1_epi32(start);
  const auto shifted = [&](__m512i block) CORTEX_INLINE_LAMBDA { return _mm512_sllv_epi32(one, block); };
  const __m512i first = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(present, rows.first + group.first), starts);
  const __m512i last = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(present, rows.last + group.first), starts);
  __m512i begin = _mm512_max_epi32(first, zero);
  __m512i end = _mm512_min_epi32(_mm512_add_epi32(last, one), _mm512_set1_epi32(kTilePositions));
  const __mmask16 some = _mm512_mask_cmplt_epi32_mask(present, begin, end);
  begin = _mm512_maskz_mov_epi32(some, begin);
  end = _mm512_maskz_mov_epi32(some, end);
  _mm512_store_si512(group.begin, begin);
  _mm512_store_si512(group.end, end);
  // Bit b is block b: what a row sees of, and what it sees all of.
  const __m512i rounding = _mm512_set1_epi32(kBlockPositions - 1);
  const __m512i begin_below = shifted(_mm512_srli_epi32(begin, 4)), end_below = shifted(_mm512_srli_epi32(end, 4));
  const __m512i begin_above = shifted(_mm512_srli_epi32(_mm512_add_epi32(begin, rounding), 4));
  const __m512i end_above = shifted(_mm512_srli_epi32(_mm512_add_epi32(end, rounding), 4));
  const __m512i seen = _mm512_sub_epi32(end_above, begin_below);
  const __m512i whole = _mm512_max_epi32(_mm512_sub_epi32(end_below, begin_above), zero);
  const auto by_some = static_cast<unsigned>(_mm512_reduce_or_epi32(seen));
  const auto by_all = static_cast<unsigned>(_mm512_mask_reduce_and_epi32(present, whole));
  group.edges = by_some != by_all;
  group.fetches = group.index == 0;
  group.block_count = 0;
  const int first_block = start / kBlockPositions;
  for (int block = 0; by_some >> block != 0; ++block) {
    if ((by_some >> block & 1u) == 0) continue;
    const int at = group.block_count++, next = first_block + kTileBlocks + block;
    group.blocks[at] = block;
    group.values[at] = reinterpret_cast<const std::byte*>(task.values[first_block + block]);
    group.next_keys[at] =
        reinterpret_cast<const std::byte*>(task.keys[next <= last_block ? next : first_block + block]);
  }
}

CORTEX_INLINE void attend_group(const AttentionTask& task, int start, int last_block, AmxRows& rows, AmxGroup& group,
                                TileScope& tiles, const TileConfig& config) {
  find_seen(task, start, last_block, rows, group);
  if (group.block_count == 0) return;
  score_blocks(task, start, rows, group);
  constexpr void (*kWeigh[])(AmxRows&, AmxGroup&, float) = {weigh<1>, weigh<2>, weigh<3>, weigh<4>};
  constexpr float kLog2OfE = 1.44269504088896341f;
  kWeigh[group.blocks[group.block_count - 1] / 2](rows, group, task.scale * kLog2OfE);
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
  bool& started = rows.started[group.index];
  started ? add_products<false>(group, task.head_dim, rows) : add_products<true>(group, task.head_dim, rows);
  started = true;
}

// Rounds the queries of a group to bfloat16.
CORTEX_INLINE void start_rows(const AttentionTask& task, AmxRows& rows, int first, int count) {
  const int dim = task.head_dim;
  std::byte* queries = rows.queries + std::ptrdiff_t{2} * first * dim;
  for (int row = first; row < first + count; ++row, queries += std::ptrdiff_t{2} * dim) {
    const bool present = row < task.count;  // else it fills up the group
    const float* query = task.rows[present ? row : first].query;
    for (std::ptrdiff_t d = 0; d < dim; d += kStepDims) {
      const __m512bh rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(query + d + 16), _mm512_loadu_ps(query + d));
      _mm512_store_si512(queries + 2 * d, reinterpret_cast<__m512i>(rounded));
    }
    rows.first[row] = present ? task.rows[row].first : 0;
    rows.last[row] = present ? task.rows[row].last : -1;
    rows.largest[row] = kNoScore;
  }
}

// Divides the sums of sixteen rows by those of their weights: by a reciprocal, and a step of Newton's that mends it.
CORTEX_INLINE void end_rows(const AttentionTask& task, const AmxRows& rows, int first) {
  const auto sum = [](__m512 a, __m512 b) CORTEX_INLINE_LAMBDA { return a + b; };
  alignas(64) float divisors[kTileRows], reciprocals[kTileRows];
  const __m512 weights = join_lanes(rows.weights + first, sum);
  _mm512_store_ps(divisors, weights);
  _mm512_store_ps(reciprocals, _mm512_set1_ps(1.0f) / weights);
  const int count = task.count - first < kTileRows ? task.count - first : kTileRows;
  for (int row = 0; row < count; ++row) {
    const __m512 divisor = _mm512_set1_ps(divisors[row]), reciprocal = _mm512_set1_ps(reciprocals[row]);
    const float* sums = rows.sums + static_cast<std::ptrdiff_t>(first + row) * task.head_dim;
    for (std::ptrdiff_t d = 0; d < task.head_dim; d += 16) {
      const __m512 dividend = _mm512_load_ps(sums + d), quotient = dividend * reciprocal;
      const __m512 result = _mm512_fmadd_ps(_mm512_fnmadd_ps(quotient, divisor, dividend), reciprocal, quotient);
      // Whether it is -0 depends on what isn't seen; 0 added makes it 0.
      _mm512_storeu_ps(task.rows[first + row].out + d, result + _mm512_setzero_ps());
    }
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
  for (int row = 0; row < task.count; row += group_rows) start_rows(task, rows, row, group_rows);
  int first = task.rows[0].first, last = task.rows[0].last;
  for (int row = 1; row < task.count; ++row) {
    first = task.rows[row].first < first ? task.rows[row].first : first;
    last = task.rows[row].last > last ? task.rows[row].last : last;
  }
  const TileConfig config = attention_config(group_rows);
  TileScope tiles(config);
  AmxGroup group;
  for (int start = first / kTilePositions * kTilePositions; start <= last; start += kTilePositions) {
    for (group.index = 0; group.index < groups; ++group.index) {
      group.first = group.index * group_rows;
      group.count = task.count - group.first < group_rows ? task.count - group.first : group_rows;
      attend_group(task, start, last / kBlockPositions, rows, group, tiles, config);
    }
  }
  for (int row = 0; row < task.count; row += kTileRows) end_rows(task, rows, row);
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace
}  // namespace cortex
