// Rows times a packed matrix of codes with AMX: sixteen rows by one panel an instruction. Included by amx.cpp, nobody
// else. Integer sums are exact, so what AMX adds up of a group of columns is what any other way adds up, and the
// float32 steps around it are those of linear_tiles.h: the same bits. Fewer than sixteen rows are left to AVX-512.
#pragma once

#include <immintrin.h>

#include "backend/cpu/amx_tiles.h"
#include "backend/cpu/avx512_linear.h"
#include "backend/cpu/linear_tiles.h"

namespace cortex {
namespace {

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): offsets inside a panel or a row are small.

// Codes of a block as bytes, signed ones less their zero point: [8 quads][16 rows][4 columns].
template <int kBits, bool kSigned>
CORTEX_INLINE void unpack_codes(const std::byte* from, int zero_shift, std::byte* to) {
  const __m512i zero_point = _mm512_set1_epi8(static_cast<char>(1 << zero_shift));
#pragma GCC unroll 8
  for (int quad = 0; quad < 8; ++quad) {
    const __m512i codes = code_quad<Avx512, kBits>(from, quad);
    _mm512_store_si512(to + 64 * quad, kSigned ? _mm512_sub_epi8(codes, zero_point) : codes);
  }
}

// Columns of a matrix that has room below; wider ones are left to AVX-512.
constexpr int kMostBlocks = 256;

// A panel of codes as bytes, and what scales them: unpacked once for all rows of a task.
struct alignas(64) UnpackedPanel {
  std::byte codes[kMostBlocks][512];
  float scales[kMostBlocks][2][kPanelRows];
  float minima[kMostBlocks][kPanelRows];
};

// Where what comes next is brought: the first cache holds what tiles are loaded from.
constexpr int kSecondCache = 2;

// Two that are multiplied, and two for what is unpacked meanwhile.
constexpr int kUnpackedPanels = 4;

// Room for them, a thread's own from its first use on.
UnpackedPanel* unpacked_panels();

// Unpacks the panels of a task, a block each step, in the order in which their first rows meet them: memory is read and
// codes are unpacked while tiles multiply.
template <int kBits, bool kTwoLevel, bool kHalves, bool kMinima>
class Unpacker {
 public:
  CORTEX_INLINE Unpacker(const PackedMatrix& matrix, int first_panel, int panels, UnpackedPanel* room)
      : format_(matrix.format), blocks_(matrix.blocks()), left_(panels * matrix.blocks()), room_(room) {
    cursor_.at = matrix.panel(first_panel);
  }

  CORTEX_INLINE void step() {
    if (left_ == 0) return;
    const int group_blocks = format_.group_columns < kBlockColumns ? 1 : format_.group_columns / kBlockColumns;
    if (block_ % group_blocks == 0) read_header<Avx512, kTwoLevel, kHalves>(cursor_, format_, block_);
    UnpackedPanel& to = room_[panel_ % kUnpackedPanels];
    unpack_codes<kBits, !kMinima>(cursor_.at, format_.zero_shift, to.codes[block_]);
#pragma GCC unroll 8
    for (int line = 0; line < kBits; ++line)
      __builtin_prefetch(cursor_.at + kPrefetchBytes + 64 * line, 0, kSecondCache);
    cursor_.at += kBits * 64;
    _mm512_store_ps(to.scales[block_][0], cursor_.scale);
    if constexpr (kHalves) _mm512_store_ps(to.scales[block_][1], cursor_.high_scale);
    if constexpr (kMinima) _mm512_store_ps(to.minima[block_], cursor_.minimum);
    --left_;
    if (++block_ == blocks_) {
      block_ = 0;
      ++panel_;
    }
  }

 private:
  const PackedFormat format_;
  const int blocks_;
  int left_;
  int panel_ = 0, block_ = 0;
  PanelCursor<Avx512> cursor_;
  UnpackedPanel* const room_;
};

// sums += group, scaled: what Int8Tile::add_part does with sixteen rows of one panel.
template <bool kMinima>
CORTEX_INLINE void add_group(const std::int32_t (*integers)[kPanelRows], __m512 scale, __m512 minimum,
                             const float* scales, const float* scaled_sums, std::size_t groups,
                             __m512 (&sums)[kTileRows]) {
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kTileRows; ++r) {
    const __m512 product = _mm512_mul_ps(scale, _mm512_set1_ps(scales[r * groups]));
    sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(integers[r])), product, sums[r]);
    if constexpr (kMinima) sums[r] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(scaled_sums[r * groups]), sums[r]);
  }
}

// Integer sums of one group after another: tiles take turns, so that one is stored while the next adds up.
template <bool kHalves, bool kMinima, typename Ahead>
CORTEX_INLINE void int8_rows(const LinearTask& task, int row, const UnpackedPanel& panel, int blocks,
                             const Ahead& unpack_ahead, float (*out)[kPanelRows], std::ptrdiff_t apart) {
  const std::size_t groups = static_cast<std::size_t>(task.in.columns) / kBlockColumns;
  const std::size_t first = static_cast<std::size_t>(row) * groups;
  const auto stride = static_cast<std::ptrdiff_t>(task.in.columns);
  const std::int8_t* rows = task.in.codes + row * stride;
  constexpr int kPart = kHalves ? 16 : 32;  // columns of a sum
  constexpr int kParts = kBlockColumns / kPart;
  constexpr int kLag = 2;  // not four: loads that are 4096 bytes from a store that waits would wait for it
  alignas(64) std::int32_t integers[4][kTileRows][kPanelRows];
  __m512 sums[kTileRows];
  for (int r = 0; r < kTileRows; ++r) sums[r] = _mm512_setzero_ps();
  const auto add = [&](int part) CORTEX_INLINE_LAMBDA {
    const int block = part / kParts;
    const __m512 scale = _mm512_load_ps(panel.scales[block][part % kParts]);
    const __m512 minimum = kMinima ? _mm512_load_ps(panel.minima[block]) : _mm512_setzero_ps();
    const std::size_t group = first + static_cast<std::size_t>(block);
    add_group<kMinima>(integers[part % 4], scale, minimum, task.in.scales + group, task.in.scaled_sums + group, groups,
                       sums);
  };
#define CORTEX_SUM_PART(tile, rows_tile, codes_tile)                          \
  if (part < parts) {                                                         \
    CORTEX_TILE_ZERO(tile);                                                   \
    CORTEX_TILE_LOAD(rows_tile, rows + kPart * part, stride);                 \
    CORTEX_TILE_LOAD(codes_tile, &panel.codes[0][0] + 16 * kPart * part, 64); \
    if constexpr (kMinima) {                                                  \
      CORTEX_TILE_MIXED(tile, rows_tile, codes_tile);                         \
    } else {                                                                  \
      CORTEX_TILE_INT8(tile, rows_tile, codes_tile);                          \
    }                                                                         \
    CORTEX_TILE_STORE(tile, integers[part % 4], 64);                          \
    if (part % kParts == kParts - 1) unpack_ahead();                          \
    if (part >= kLag) add(part - kLag);                                       \
    ++part;                                                                   \
  }
  const int parts = blocks * kParts;
  int part = 0;
  while (part < parts) {
    CORTEX_SUM_PART(0, 4, 6)
    CORTEX_SUM_PART(1, 5, 7)
    CORTEX_SUM_PART(2, 4, 6)
    CORTEX_SUM_PART(3, 5, 7)
  }
#undef CORTEX_SUM_PART
  for (int rest = parts < kLag ? 0 : parts - kLag; rest < parts; ++rest) add(rest);
  for (int r = 0; r < kTileRows; ++r) _mm512_storeu_ps(&out[0][0] + r * apart, sums[r]);
}

CORTEX_INLINE TileConfig int8_config(int columns) {
  TileConfig config;
  for (int tile = 0; tile < 4; ++tile) config.shape(tile, kTileRows, 64);
  for (int tile = 4; tile < 6; ++tile) config.shape(tile, kTileRows, columns);
  for (int tile = 6; tile < 8; ++tile) config.shape(tile, columns / 4, 64);
  return config;
}

// Blocks that are unpacked before they are multiplied: their stores have ended when tiles load them. At most two
// panels, since the two before those are multiplied meanwhile.
CORTEX_INLINE int blocks_ahead(int blocks) { return blocks < 2 ? 2 * blocks : 4; }

// Codes have either minima or a zero point.
template <int kBits, bool kTwoLevel, bool kHalves, bool kMinima>
void int8_panels(const LinearTask& task, int rows) {
  const PackedMatrix& matrix = *task.matrix;
  const int blocks = matrix.blocks();
  const TileConfig config = int8_config(kHalves ? 16 : 32);
  const TileScope scope(config);
  UnpackedPanel* const room = unpacked_panels();
  Unpacker<kBits, kTwoLevel, kHalves, kMinima> unpacker(matrix, task.first_panel, task.panels, room);
  for (int block = 0; block < blocks_ahead(blocks); ++block) unpacker.step();
  for (int index = 0; index < task.panels; index += 2) {
    const int panels = task.panels - index < 2 ? 1 : 2;
    for (int row = task.first_row; row < task.first_row + rows; row += kTileRows) {
      alignas(64) float sums[kTileRows * 2][kPanelRows];
      const bool first = row == task.first_row;
      const auto unpack_ahead = [&]() CORTEX_INLINE_LAMBDA {
        if (first) unpacker.step();
      };
      for (int p = 0; p < panels; ++p) {
        const UnpackedPanel& panel = room[(index + p) % kUnpackedPanels];
        const std::ptrdiff_t apart = panels * kPanelRows;
        int8_rows<kHalves, kMinima>(task, row, panel, blocks, unpack_ahead, sums + p, apart);
      }
      end_tile(task, row, kTileRows, task.first_panel + index, panels, &sums[0][0]);
    }
  }
}

template <int kBits>
void int8_panels(const LinearTask& task, int rows) {
  const PackedFormat& format = task.matrix->format;
  if (format.scales == ScaleKind::two_level) {
    if constexpr (kBits == 6) return int8_panels<kBits, true, true, false>(task, rows);
    if constexpr (kBits < 6) return int8_panels<kBits, true, false, true>(task, rows);
  } else if (format.minima) {
    return int8_panels<kBits, false, false, true>(task, rows);
  } else {
    return int8_panels<kBits, false, false, false>(task, rows);
  }
}

void linear_int8_amx(const LinearTask& task) {
  const int rows = task.matrix->blocks() <= kMostBlocks ? task.rows / kTileRows * kTileRows : 0;
  if (rows > 0) {
    switch (task.matrix->format.bits) {
      case 4:
        int8_panels<4>(task, rows);
        break;
      case 5:
        int8_panels<5>(task, rows);
        break;
      case 6:
        int8_panels<6>(task, rows);
        break;
      default:
        int8_panels<8>(task, rows);
        break;
    }
  }
  if (rows == task.rows) return;
  LinearTask rest = task;
  rest.first_row += rows;
  rest.rows -= rows;
  kAvx512Kernels.linear_int8(rest);
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace
}  // namespace cortex
