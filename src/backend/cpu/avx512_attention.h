// Attention with AVX-512 and BF16: six rows at a time by four blocks of keys, then by four vectors of values, whose
// sums stay in registers while the elements or positions pass. Included by avx512.cpp, nobody else; attention_loops.h
// is the plain twin.
#pragma once

#include <immintrin.h>

#include "backend/cpu/attention_task.h"
#include "backend/cpu/loops.h"

namespace cortex {
namespace {

constexpr std::ptrdiff_t kBlockPositions = 16;
constexpr std::ptrdiff_t kTileBlocks = kTilePositions / kBlockPositions;
constexpr int kGroupRows = 6;
constexpr float kNoScore = -__builtin_inff();

// Where the blocks of a tile are. One that no row sees is stood in for by one that some row does.
struct AttentionTile {
  const char* keys[kTileBlocks];
  const char* values[kTileBlocks];
  const char* next_keys[kTileBlocks];  // of the tile after, to fetch ahead
};

// What scratch holds of a row from tile to tile.
struct AttentionState {
  float* sums;           // [padded_dim], of values times weights
  float* query;          // [padded_dim / 2] pairs of bfloat16
  float* weights;        // [8]: their sum, position i in lane i / 2 mod 8
  float* largest_score;  // so far
};

// Rows that pass over a tile together, and what each sees of it: positions [begin, end).
struct AttentionGroup {
  AttentionState rows[kGroupRows];
  int begin[kGroupRows], end[kGroupRows];
  float shrink[kGroupRows];  // of earlier sums, for the new largest score
  alignas(64) float scores[kGroupRows][kTilePositions];
  alignas(64) float weights[kGroupRows][kTilePositions / 2];  // pairs of bfloat16
};

CORTEX_INLINE AttentionState state_of(const AttentionTask& task, int row) {
  const int dim = padded_head_dim(task.head_dim);
  float* at = task.scratch + static_cast<std::ptrdiff_t>(row) * (dim + dim / 2 + 16);
  return {.sums = at + 16, .query = at + 16 + dim, .weights = at, .largest_score = at + 8};
}

CORTEX_INLINE __m512bh load_pairs(const char* from) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(from)); }

CORTEX_INLINE __m512bh broadcast_pair(const float* from) {
  return reinterpret_cast<__m512bh>(_mm512_castps_si512(_mm512_set1_ps(*from)));
}

// loops.h's exp_of, its products fused with the sums.
CORTEX_INLINE __m512 fused_exp(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x);  // in this order NaN stays; x is never above 0
  const __m512 round = _mm512_set1_ps(12582912.0f);
  const __m512 power = _mm512_fmadd_ps(x, _mm512_set1_ps(1.44269504088896341f), round) - round;
  __m512 r = _mm512_fnmadd_ps(power, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(power, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_fmadd_ps(r, _mm512_set1_ps(1.9875691500e-4f), _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, power);
}

// Scores of kBlocks blocks from `block` on. The tile's values are fetched meanwhile.
template <int kRows, int kBlocks>
CORTEX_INLINE void score_blocks(const AttentionTask& task, const AttentionTile& tile, AttentionGroup& group,
                                std::ptrdiff_t block, bool prefetches) {
  const float* queries[kRows];
  for (int r = 0; r < kRows; ++r) queries[r] = group.rows[r].query;
  const char* keys[kBlocks];
  for (int b = 0; b < kBlocks; ++b) keys[b] = tile.keys[block + b];
  __m512 sums[kRows][kBlocks];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) sums[r][b] = _mm512_setzero_ps();
  }
  for (std::ptrdiff_t pair = 0; pair < task.head_dim / 2; ++pair) {
    __m512bh elements[kBlocks];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) elements[b] = load_pairs(keys[b] + 64 * pair);
    if (prefetches) {
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b) _mm_prefetch(tile.values[block + b] + 64 * pair, _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512bh query = broadcast_pair(queries[r] + pair);
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b) sums[r][b] = _mm512_dpbf16_ps(sums[r][b], elements[b], query);
    }
  }
  const __m512 scale = _mm512_set1_ps(task.scale);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
      _mm512_store_ps(group.scores[r] + kBlockPositions * (block + b), sums[r][b] * scale);
    }
  }
}

CORTEX_INLINE std::uint64_t ones_below(int bit) {
  return bit <= 0 ? 0 : bit >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bit) - 1;
}

// Turns the scores of a row into weights: exp(score - largest), rounded; 0 where the row doesn't see, or
// the score is -infinity.
CORTEX_INLINE void weigh(AttentionGroup& group, int r) {
  const int begin = group.begin[r], end = group.end[r];
  const std::uint64_t seen[2] = {ones_below(end) & ~ones_below(begin), ones_below(end - 64) & ~ones_below(begin - 64)};
  const std::ptrdiff_t first = begin / kBlockPositions, last = (end - 1) / kBlockPositions;
  const auto lanes = [&](std::ptrdiff_t block) CORTEX_INLINE_LAMBDA {
    return static_cast<__mmask16>(seen[block / 4] >> (block % 4 * kBlockPositions));
  };
  const float* scores = group.scores[r];
  __m512 largest = _mm512_set1_ps(kNoScore);
  for (std::ptrdiff_t block = first; block <= last; ++block) {  // a score that is NaN is passed over
    largest = _mm512_mask_max_ps(largest, lanes(block), _mm512_load_ps(scores + kBlockPositions * block), largest);
  }
  const AttentionState& row = group.rows[r];
  const float before = *row.largest_score;
  const float in_tile = _mm512_reduce_max_ps(largest);
  const float now = in_tile > before ? in_tile : before;
  *row.largest_score = now;
  const float subtracted = now == kNoScore ? 0.0f : now;
  const float shrink = _mm512_cvtss_f32(fused_exp(_mm512_set1_ps(before - subtracted)));
  group.shrink[r] = shrink;

  const auto one = reinterpret_cast<__m256bh>(_mm256_set1_epi16(0x3f80));
  __m256 sum = _mm256_loadu_ps(row.weights) * shrink;
  for (std::ptrdiff_t block = first; block <= last; ++block) {
    const __m512 score = _mm512_load_ps(scores + kBlockPositions * block);
    const __mmask16 found = _mm512_mask_cmp_ps_mask(lanes(block), score, _mm512_set1_ps(kNoScore), _CMP_NEQ_UQ);
    const __m512 weight = _mm512_maskz_mov_ps(found, fused_exp(score - _mm512_set1_ps(subtracted)));
    const __m256bh rounded = _mm512_cvtneps_pbh(weight);
    _mm256_store_si256(reinterpret_cast<__m256i*>(group.weights[r] + kBlockPositions / 2 * block),
                       reinterpret_cast<__m256i>(rounded));
    sum = _mm256_dpbf16_ps(sum, rounded, one);
  }
  _mm256_storeu_ps(row.weights, sum);
}

// Which pairs of positions some row of a group sees, [begin, end), and which all do, [all_begin, all_end).
struct SeenPairs {
  int begin, all_begin, all_end, end;
};

template <int kRows>
CORTEX_INLINE SeenPairs seen_pairs(const AttentionGroup& group) {
  int least = kTilePositions, most = 0, all_least = 0, all_most = kTilePositions;
  for (int r = 0; r < kRows; ++r) {
    least = group.begin[r] < least ? group.begin[r] : least;
    most = group.end[r] > most ? group.end[r] : most;
    all_least = group.begin[r] > all_least ? group.begin[r] : all_least;
    all_most = group.end[r] < all_most ? group.end[r] : all_most;
  }
  SeenPairs pairs = {least / 2, (all_least + 1) / 2, all_most / 2, (most + 1) / 2};
  if (pairs.all_begin >= pairs.all_end) pairs.all_begin = pairs.all_end = pairs.end;
  return pairs;
}

// Adds one pair of positions that not all rows see; what a row doesn't see isn't multiplied even by 0.
template <int kRows, int kVectors>
CORTEX_INLINE void add_edge(const AttentionGroup& group, std::ptrdiff_t pair, const char* from,
                            __m512 (&sums)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const bool low = 2 * pair >= group.begin[r] && 2 * pair < group.end[r];
    const bool high = 2 * pair + 1 >= group.begin[r] && 2 * pair + 1 < group.end[r];
    if (!low && !high) continue;
    const __m512i seen = _mm512_set1_epi32(static_cast<int>((low ? 0xffffu : 0u) | (high ? 0xffff0000u : 0u)));
    const __m512bh weight = broadcast_pair(group.weights[r] + pair);
#pragma GCC unroll 4
    for (std::ptrdiff_t v = 0; v < kVectors; ++v) {
      const __m512i values = _mm512_and_si512(_mm512_loadu_si512(from + 64 * v), seen);
      sums[r][v] = _mm512_dpbf16_ps(sums[r][v], reinterpret_cast<__m512bh>(values), weight);
    }
  }
}

// Adds the tile's values times the weights, kVectors vectors of them from `vector` on. The keys of the next tile are
// fetched meanwhile.
template <int kRows, int kVectors>
CORTEX_INLINE void add_values(const AttentionTask& task, const AttentionTile& tile, AttentionGroup& group,
                              std::ptrdiff_t vector, const SeenPairs& pairs, bool prefetches) {
  const std::ptrdiff_t pair_bytes = std::ptrdiff_t{4} * padded_head_dim(task.head_dim);
  const auto offset = [&](std::ptrdiff_t pair) CORTEX_INLINE_LAMBDA { return pair % 8 * pair_bytes + 64 * vector; };
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512 shrink = _mm512_set1_ps(group.shrink[r]);
#pragma GCC unroll 4
    for (std::ptrdiff_t v = 0; v < kVectors; ++v)
      sums[r][v] = _mm512_loadu_ps(group.rows[r].sums + 16 * (vector + v)) * shrink;
  }
  for (std::ptrdiff_t pair = pairs.begin; pair < pairs.all_begin; ++pair) {
    add_edge<kRows, kVectors>(group, pair, tile.values[pair / 8] + offset(pair), sums);
  }
  for (std::ptrdiff_t pair = pairs.all_begin; pair < pairs.all_end; ++pair) {
    const char* from = tile.values[pair / 8] + offset(pair);
    __m512bh elements[kVectors];
#pragma GCC unroll 4
    for (std::ptrdiff_t v = 0; v < kVectors; ++v) elements[v] = load_pairs(from + 64 * v);
    if (prefetches) {
      const char* ahead = tile.next_keys[pair / 8] + offset(pair);
#pragma GCC unroll 4
      for (std::ptrdiff_t v = 0; v < kVectors; ++v) _mm_prefetch(ahead + 64 * v, _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512bh weight = broadcast_pair(group.weights[r] + pair);
#pragma GCC unroll 4
      for (std::ptrdiff_t v = 0; v < kVectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], elements[v], weight);
    }
  }
  for (std::ptrdiff_t pair = pairs.all_end; pair < pairs.end; ++pair) {
    add_edge<kRows, kVectors>(group, pair, tile.values[pair / 8] + offset(pair), sums);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (std::ptrdiff_t v = 0; v < kVectors; ++v) _mm512_storeu_ps(group.rows[r].sums + 16 * (vector + v), sums[r][v]);
  }
}

template <int kRows>
void attend_group(const AttentionTask& task, const AttentionTile& tile, AttentionGroup& group, bool prefetches) {
  const SeenPairs pairs = seen_pairs<kRows>(group);
  std::ptrdiff_t block = pairs.begin / 8;
  const int end_block = (pairs.end + 7) / 8;
  for (; block + 4 <= end_block; block += 4) score_blocks<kRows, 4>(task, tile, group, block, prefetches);
  for (; block < end_block; ++block) score_blocks<kRows, 1>(task, tile, group, block, prefetches);
  for (int r = 0; r < kRows; ++r) weigh(group, r);
  const int vectors = padded_head_dim(task.head_dim) / 16;
  std::ptrdiff_t vector = 0;
  for (; vector + 4 <= vectors; vector += 4) add_values<kRows, 4>(task, tile, group, vector, pairs, prefetches);
  if (vector + 2 <= vectors) {
    add_values<kRows, 2>(task, tile, group, vector, pairs, prefetches);
    vector += 2;
  }
  if (vector < vectors) add_values<kRows, 1>(task, tile, group, vector, pairs, prefetches);
}

CORTEX_INLINE void start_row(const AttentionTask& task, int row) {
  const AttentionState state = state_of(task, row);
  _mm256_storeu_ps(state.weights, _mm256_setzero_ps());
  *state.largest_score = kNoScore;
  for (int d = 0; d < task.head_dim; d += 16) {
    const int count = task.head_dim - d < 16 ? task.head_dim - d : 16;
    const __m512 query = _mm512_maskz_loadu_ps(static_cast<__mmask16>(ones_below(count)), task.rows[row].query + d);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(state.query + d / 2),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(query)));
    _mm512_storeu_ps(state.sums + d, _mm512_setzero_ps());
  }
}

CORTEX_INLINE void end_row(const AttentionTask& task, int row) {
  const AttentionState state = state_of(task, row);
  const float* lanes = state.weights;
  const float sum = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
  for (int d = 0; d < task.head_dim; d += 16) {
    const int count = task.head_dim - d < 16 ? task.head_dim - d : 16;
    _mm512_mask_storeu_ps(task.rows[row].out + d, static_cast<__mmask16>(ones_below(count)),
                          _mm512_loadu_ps(state.sums + d) / sum);
  }
}

// Rows that see something of a tile: their number and what they see.
struct TileRows {
  int count = 0;
  int rows[kAttentionRows];
  int begin[kAttentionRows], end[kAttentionRows];
  unsigned blocks = 0;  // bit b: some row sees block b
};

CORTEX_INLINE TileRows rows_of_tile(const AttentionTask& task, int start) {
  TileRows seen;
  for (int row = 0; row < task.count; ++row) {
    const int first = task.rows[row].first - start, last = task.rows[row].last - start;
    if (first >= kTilePositions || last < 0) continue;
    const int begin = first > 0 ? first : 0;
    const int end = last < kTilePositions ? last + 1 : kTilePositions;
    seen.rows[seen.count] = row;
    seen.begin[seen.count] = begin;
    seen.end[seen.count] = end;
    ++seen.count;
    seen.blocks |= (2u << ((end - 1) / kBlockPositions)) - (1u << (begin / kBlockPositions));
  }
  return seen;
}

CORTEX_INLINE AttentionTile locate_tile(const AttentionTask& task, int start, unsigned seen_blocks,
                                        std::ptrdiff_t last_block) {
  AttentionTile tile;
  const std::ptrdiff_t first = start / kBlockPositions;
  const std::ptrdiff_t other = first + __builtin_ctz(seen_blocks);
  for (std::ptrdiff_t b = 0; b < kTileBlocks; ++b) {
    const std::ptrdiff_t block = (seen_blocks >> b & 1u) != 0 ? first + b : other;
    const std::ptrdiff_t next = first + kTileBlocks + b <= last_block ? first + kTileBlocks + b : block;
    tile.keys[b] = reinterpret_cast<const char*>(task.keys[block]);
    tile.values[b] = reinterpret_cast<const char*>(task.values[block]);
    tile.next_keys[b] = reinterpret_cast<const char*>(task.keys[next]);
  }
  return tile;
}

CORTEX_INLINE void attend_tile(const AttentionTask& task, const AttentionTile& tile, const TileRows& seen) {
  constexpr void (*kGroups[])(const AttentionTask&, const AttentionTile&, AttentionGroup&, bool) = {
      attend_group<1>, attend_group<2>, attend_group<3>, attend_group<4>, attend_group<5>, attend_group<6>};
  AttentionGroup group;
  for (int done = 0; done < seen.count;) {
    // Nearly equal groups: 16 rows are 6, 5 and 5.
    const int left = seen.count - done;
    const int groups = (left + kGroupRows - 1) / kGroupRows;
    const int count = (left + groups - 1) / groups;
    for (int r = 0; r < count; ++r) {
      group.rows[r] = state_of(task, seen.rows[done + r]);
      group.begin[r] = seen.begin[done + r];
      group.end[r] = seen.end[done + r];
    }
    kGroups[count - 1](task, tile, group, done == 0);
    done += count;
  }
}

void attend_avx512(const AttentionTask& task) {
  int first = task.rows[0].first, last = task.rows[0].last;
  for (int row = 0; row < task.count; ++row) {
    start_row(task, row);
    first = task.rows[row].first < first ? task.rows[row].first : first;
    last = task.rows[row].last > last ? task.rows[row].last : last;
  }
  for (int start = first / kTilePositions * kTilePositions; start <= last; start += kTilePositions) {
    const TileRows seen = rows_of_tile(task, start);
    if (seen.count == 0) continue;
    attend_tile(task, locate_tile(task, start, seen.blocks, last / kBlockPositions), seen);
  }
  for (int row = 0; row < task.count; ++row) end_row(task, row);
}

// To the nearest bfloat16, ties to even, in the low halves. NaN stays NaN.
CORTEX_INLINE __m512i rounded_to_bf16(__m512i bits) {
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i nearest = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  const __mmask16 is_nan = _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(0x7f800000));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, nearest, quiet), 16);
}

void keep_avx512(const float* key, const float* value, int head_dim, int position, std::uint16_t* keys,
                 std::uint16_t* values) {
  const __m256i lines = _mm256_set_epi32(56, 48, 40, 32, 24, 16, 8, 0);  // where pairs of elements lie, in 8 bytes
  std::uint16_t* to_key = keys + std::ptrdiff_t{2} * position;
  std::uint16_t* to_value = values + std::ptrdiff_t{position} / 2 * 2 * padded_head_dim(head_dim);
  const __m128i shift = _mm_cvtsi32_si128(position % 2 * 16);
  const __mmask32 halves = position % 2 == 0 ? 0x55555555u : 0xaaaaaaaau;  // those of the pairs that are the position's
  for (std::ptrdiff_t d = 0; d < head_dim; d += 16, to_key += kBlockPositions * 16, to_value += 32) {
    const auto left = static_cast<int>(head_dim - d);
    const auto lanes = static_cast<__mmask16>(ones_below(left));
    const __m256i pairs = _mm512_cvtepi32_epi16(rounded_to_bf16(_mm512_maskz_loadu_epi32(lanes, key + d)));
    _mm256_mask_i32scatter_epi32(to_key, static_cast<__mmask8>(ones_below(left / 2)), lines, pairs, 8);
    const __m512i rounded = rounded_to_bf16(_mm512_maskz_loadu_epi32(lanes, value + d));
    _mm512_mask_storeu_epi16(to_value, halves & static_cast<__mmask32>(ones_below(2 * left)),
                             _mm512_sll_epi32(rounded, shift));
  }
}

}  // namespace
}  // namespace cortex
