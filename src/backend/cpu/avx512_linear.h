// Rows times a packed matrix with AVX-512, VNNI and BF16: tiles of a few rows by a few panels, whose sums stay in
// registers while the columns pass. Included by avx512.cpp, nobody else; linear_loops.h is the plain twin.
// Four to six rows by two panels keep the multipliers busy; one row by four panels keeps enough memory in flight.
#pragma once

#include <immintrin.h>

#include "backend/cpu/linear.h"
#include "backend/cpu/loops.h"

namespace cortex {
namespace {

constexpr int kWholeRows = 6;
constexpr int kPrefetchBytes = 1536;  // ahead in each panel, when rows are so few that memory is the limit

CORTEX_INLINE __m512i load_codes(const std::byte* from) { return _mm512_loadu_si512(from); }

CORTEX_INLINE __m512i broadcast4(const std::int8_t* from) {
  std::int32_t four;
  std::memcpy(&four, from, sizeof four);
  return _mm512_set1_epi32(four);
}

CORTEX_INLINE __m512 load_scales(ScaleKind kind, const std::byte* from) {
  if (kind == ScaleKind::f32) return _mm512_loadu_ps(from);
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  if (kind == ScaleKind::f16) return _mm512_cvtph_ps(halves);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

CORTEX_INLINE __m512 load_unsigned(const std::byte* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

CORTEX_INLINE __m512 load_signed(const std::byte* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

// Where a panel is being read, and what scales the block at hand.
template <bool kTwoLevel>
struct PanelCursor {
  const std::byte* at;
  __m512 super_scale, super_minimum;
  __m512 scale, high_scale, minimum;
};

template <bool kTwoLevel, bool kHalves>
CORTEX_INLINE void read_header(PanelCursor<kTwoLevel>& cursor, const PackedFormat& format, int block) {
  if constexpr (kTwoLevel) {
    if (block % (kSuperColumns / kBlockColumns) == 0) {
      cursor.super_scale = load_scales(ScaleKind::f16, cursor.at);
      cursor.at += 2 * kPanelRows;
      if (format.minima) {
        cursor.super_minimum = load_scales(ScaleKind::f16, cursor.at);
        cursor.at += 2 * kPanelRows;
      }
    }
    if constexpr (kHalves) {
      cursor.scale = cursor.super_scale * load_signed(cursor.at);
      cursor.high_scale = cursor.super_scale * load_signed(cursor.at + kPanelRows);
      cursor.at += 2 * kPanelRows;
    } else {
      cursor.scale = cursor.super_scale * load_unsigned(cursor.at);
      cursor.minimum = -(cursor.super_minimum * load_unsigned(cursor.at + kPanelRows));
      cursor.at += 2 * kPanelRows;
    }
  } else {
    const int bytes = format.scales == ScaleKind::f32 ? 4 * kPanelRows : 2 * kPanelRows;
    cursor.scale = load_scales(format.scales, cursor.at);
    cursor.at += bytes;
    if (format.minima) {
      cursor.minimum = load_scales(format.scales, cursor.at);
      cursor.at += bytes;
    }
  }
}

// The eight quads of a block of a panel, one after another.
template <int kBits>
struct BlockCodes {
  const std::byte* at;

  CORTEX_INLINE __m512i plane(int bit, int quad, int to) const {
    const __m512i bits = load_codes(at + 256 + 64 * (bit - 4));
    const __m512i shifted = quad <= to ? _mm512_slli_epi16(bits, static_cast<unsigned>(to - quad))
                                       : _mm512_srli_epi16(bits, static_cast<unsigned>(quad - to));
    return _mm512_and_si512(shifted, _mm512_set1_epi8(static_cast<char>(1 << to)));
  }

  CORTEX_INLINE __m512i quad(int index) const {
    if constexpr (kBits == 8) {
      return load_codes(at + 64 * index);
    } else {
      __m512i codes = load_codes(at + 64 * (index % 4));
      if (index >= 4) codes = _mm512_srli_epi16(codes, 4);
      codes = _mm512_and_si512(codes, _mm512_set1_epi8(15));
      if constexpr (kBits >= 5) codes = _mm512_or_si512(codes, plane(4, index, 4));
      if constexpr (kBits >= 6) codes = _mm512_or_si512(codes, plane(5, index, 5));
      return codes;
    }
  }
};

// What a tile ends with: bias, and what LinearEnd says.
template <int kRows, int kPanels>
CORTEX_INLINE void end_tile(const LinearTask& task, int row, int panel, __m512 (&sums)[kRows][kPanels]) {
  if (task.bias != nullptr) {
    for (int p = 0; p < kPanels; ++p) {
      const __m512 bias = _mm512_loadu_ps(task.bias + kPanelRows * (panel + p));
      for (int r = 0; r < kRows; ++r) sums[r][p] += bias;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = task.out + static_cast<std::size_t>(row + r) * task.out_stride;
    if (task.end == LinearEnd::gate) {
      for (int p = 0; p + 1 < kPanels; p += 2) {
        const __m512 gate = activated(task.activation, sums[r][p]);
        _mm512_storeu_ps(out + kPanelRows * ((panel + p) / 2), gate * sums[r][p + 1]);
      }
      continue;
    }
    for (int p = 0; p < kPanels; ++p) {
      float* to = out + kPanelRows * (panel + p);
      if (task.end == LinearEnd::add) sums[r][p] += _mm512_loadu_ps(to);
      _mm512_storeu_ps(to, sums[r][p]);
    }
  }
}

template <int kBits, bool kTwoLevel, bool kHalves>
struct Int8Tile {
  // Quads [first, last) of the block into `sums`, which start at -zero_point * sum of the activations.
  template <int kRows, int kPanels>
  static CORTEX_INLINE void multiply(const BlockCodes<kBits> (&codes)[kPanels], const std::int8_t* const (&in)[kRows],
                                     int first, int last, __m512i (&sums)[kRows][kPanels]) {
#pragma GCC unroll 8
    for (int quad = first; quad < last; ++quad) {
      // Low and high nibbles of one load follow one another.
      const int index = kBits == 8 || kHalves ? quad : quad / 2 + quad % 2 * 4;
      __m512i weights[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) weights[p] = codes[p].quad(index);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512i four = broadcast4(in[r] + 4 * index);
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], weights[p], four);
      }
    }
  }

  template <int kRows, int kPanels>
  static CORTEX_INLINE void run(const LinearTask& task, int row, int panel) {
    const PackedMatrix& matrix = *task.matrix;
    const PackedFormat format = matrix.format;
    const LinearInput& in = task.in;
    const std::size_t groups = static_cast<std::size_t>(in.columns) / kBlockColumns;
    const __m128i zero_shift = _mm_cvtsi32_si128(format.zero_shift);
    const int blocks = matrix.blocks();
    const int group_blocks = format.group_columns < kBlockColumns ? 1 : format.group_columns / kBlockColumns;
    const bool prefetches = task.rows <= kWholeRows;

    PanelCursor<kTwoLevel> cursors[kPanels];
    for (int p = 0; p < kPanels; ++p) cursors[p].at = matrix.panel(panel + p);
    const std::int8_t* codes_in[kRows];
    for (int r = 0; r < kRows; ++r) {
      codes_in[r] = in.codes + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(in.columns);
    }
    const float* scales_in = in.scales + static_cast<std::size_t>(row) * groups;
    const float* sums_in = in.scaled_sums + static_cast<std::size_t>(row) * groups;
    const std::int32_t* negative_in = in.negative_sums + static_cast<std::size_t>(row) * groups * 2;

    __m512 out[kRows][kPanels];
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPanels; ++p) out[r][p] = _mm512_setzero_ps();
    }
    for (int block = 0; block < blocks; ++block) {
      BlockCodes<kBits> codes[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        if (block % group_blocks == 0) read_header<kTwoLevel, kHalves>(cursors[p], format, block);
        codes[p].at = cursors[p].at;
        cursors[p].at += kBits * 64;
        if (prefetches) {
#pragma GCC unroll 8
          for (int line = 0; line < kBits; ++line) {
            _mm_prefetch(reinterpret_cast<const char*>(cursors[p].at) + kPrefetchBytes + 64 * line, _MM_HINT_T0);
          }
        }
      }
      constexpr int kParts = kHalves ? 2 : 1;
#pragma GCC unroll 2
      for (int part = 0; part < kParts; ++part) {
        __m512i sums[kRows][kPanels];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          __m512i start = _mm512_setzero_si512();
          if (format.zero_shift > 0) {
            const std::int32_t* halves =
                negative_in + (static_cast<std::size_t>(r) * groups + static_cast<std::size_t>(block)) * 2;
            const std::int32_t sum = kHalves ? halves[part] : halves[0] + halves[1];
            start = _mm512_sll_epi32(_mm512_set1_epi32(sum), zero_shift);
          }
#pragma GCC unroll 4
          for (int p = 0; p < kPanels; ++p) sums[r][p] = start;
        }
        multiply<kRows, kPanels>(codes, codes_in, kHalves ? 4 * part : 0, kHalves ? 4 * part + 4 : 8, sums);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const std::size_t group = static_cast<std::size_t>(r) * groups + static_cast<std::size_t>(block);
          const __m512 scale = _mm512_set1_ps(scales_in[group]);
#pragma GCC unroll 4
          for (int p = 0; p < kPanels; ++p) {
            const __m512 product = (kHalves && part == 1 ? cursors[p].high_scale : cursors[p].scale) * scale;
            out[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][p]), product, out[r][p]);
          }
          if (format.minima) {
            const __m512 sum = _mm512_set1_ps(sums_in[group]);
#pragma GCC unroll 4
            for (int p = 0; p < kPanels; ++p) out[r][p] = _mm512_fmadd_ps(cursors[p].minimum, sum, out[r][p]);
          }
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) codes_in[r] += kBlockColumns;
    }
    end_tile(task, row, panel, out);
  }
};

struct Bf16Tile {
  template <int kRows, int kPanels>
  static CORTEX_INLINE void run(const LinearTask& task, int row, int panel) {
    const PackedMatrix& matrix = *task.matrix;
    const int pairs = matrix.blocks() * kBlockColumns / 2;
    const std::byte* weights[kPanels];
    for (int p = 0; p < kPanels; ++p) weights[p] = matrix.panel(panel + p);
    const std::uint16_t* in[kRows];
    for (int r = 0; r < kRows; ++r) {
      in[r] = task.in.halves + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(task.in.columns);
    }
    __m512 out[kRows][kPanels];
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPanels; ++p) out[r][p] = _mm512_setzero_ps();
    }
    for (int pair = 0; pair < pairs; ++pair) {
      __m512bh columns[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) columns[p] = reinterpret_cast<__m512bh>(load_codes(weights[p] + 64 * pair));
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        std::int32_t two;
        std::memcpy(&two, in[r] + 2 * pair, sizeof two);
        const auto values = reinterpret_cast<__m512bh>(_mm512_set1_epi32(two));
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) out[r][p] = _mm512_dpbf16_ps(out[r][p], columns[p], values);
      }
    }
    end_tile(task, row, panel, out);
  }
};

// The rows of a task over kPanels panels from `panel` on.
template <typename Tile, int kPanels>
CORTEX_INLINE void tile_rows(const LinearTask& task, int panel) {
  int row = task.first_row;
  int left = task.rows;
  // Nearly equal tiles: 16 rows are 6, 5 and 5.
  while (left > 0) {
    const int tiles = (left + kWholeRows - 1) / kWholeRows;
    const int rows = (left + tiles - 1) / tiles;
    switch (rows) {
      case 1:
        Tile::template run<1, kPanels>(task, row, panel);
        break;
      case 2:
        Tile::template run<2, kPanels>(task, row, panel);
        break;
      case 3:
        Tile::template run<3, kPanels>(task, row, panel);
        break;
      case 4:
        Tile::template run<4, kPanels>(task, row, panel);
        break;
      case 5:
        Tile::template run<5, kPanels>(task, row, panel);
        break;
      default:
        Tile::template run<6, kPanels>(task, row, panel);
        break;
    }
    row += rows;
    left -= rows;
  }
}

template <typename Tile>
void linear_tiles(const LinearTask& task) {
  const int end = task.first_panel + task.panels;
  int panel = task.first_panel;
  if (task.rows <= 2) {
    for (; panel + 4 <= end; panel += 4) {
      if (task.rows == 1) {
        Tile::template run<1, 4>(task, task.first_row, panel);
      } else {
        Tile::template run<2, 4>(task, task.first_row, panel);
      }
    }
  }
  for (; panel + 2 <= end; panel += 2) tile_rows<Tile, 2>(task, panel);
  if (panel < end) tile_rows<Tile, 1>(task, panel);
}

void linear_int8_avx512(const LinearTask& task) {
  const PackedFormat& format = task.matrix->format;
  const bool two_level = format.scales == ScaleKind::two_level;
  switch (format.bits) {
    case 4:
      return two_level ? linear_tiles<Int8Tile<4, true, false>>(task) : linear_tiles<Int8Tile<4, false, false>>(task);
    case 5:
      return two_level ? linear_tiles<Int8Tile<5, true, false>>(task) : linear_tiles<Int8Tile<5, false, false>>(task);
    case 6:
      return two_level ? linear_tiles<Int8Tile<6, true, true>>(task) : linear_tiles<Int8Tile<6, false, false>>(task);
    default:
      return linear_tiles<Int8Tile<8, false, false>>(task);
  }
}

void linear_bf16_avx512(const LinearTask& task) { linear_tiles<Bf16Tile>(task); }

}  // namespace
}  // namespace cortex
