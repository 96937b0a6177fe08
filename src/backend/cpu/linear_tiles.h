// Rows times a packed matrix in tiles of a few rows by a few panels, whose sums stay in registers while the columns
// pass: what is the same for every instruction set. A `Set` is a struct of the file that includes this: its vectors of
// the 16 rows of a panel, Floats and Integers, what is done with them, and how large its tiles are. linear_loops.h is
// the plain twin.
#pragma once

#include "backend/cpu/linear.h"
#include "backend/cpu/loops.h"

namespace cortex {
namespace {

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): offsets inside a panel or a row are small.

// Ahead in each panel, by the first rows of a task, for those after them too; past its end, in the one that comes after
// those of the tile.
constexpr std::ptrdiff_t kPrefetchBytes = 6144;

// Where a panel is being read, and what scales the block at hand.
template <typename Set>
struct PanelCursor {
  const std::byte* at;
  typename Set::Floats super_scale, super_minimum;
  typename Set::Floats scale, high_scale, minimum;
};

template <typename Set, bool kTwoLevel, bool kHalves>
CORTEX_INLINE void read_header(PanelCursor<Set>& cursor, const PackedFormat& format, int block) {
  if constexpr (kTwoLevel) {
    if (block % (kSuperColumns / kBlockColumns) == 0) {
      cursor.super_scale = Set::scales(ScaleKind::f16, cursor.at);
      cursor.at += 2 * kPanelRows;
      if (format.minima) {
        cursor.super_minimum = Set::scales(ScaleKind::f16, cursor.at);
        cursor.at += 2 * kPanelRows;
      }
    }
    if constexpr (kHalves) {
      cursor.scale = Set::product(cursor.super_scale, Set::signed_bytes(cursor.at));
      cursor.high_scale = Set::product(cursor.super_scale, Set::signed_bytes(cursor.at + kPanelRows));
    } else {
      cursor.scale = Set::product(cursor.super_scale, Set::unsigned_bytes(cursor.at));
      cursor.minimum = Set::negative(Set::product(cursor.super_minimum, Set::unsigned_bytes(cursor.at + kPanelRows)));
    }
    cursor.at += 2 * kPanelRows;
  } else {
    const int bytes = format.scales == ScaleKind::f32 ? 4 * kPanelRows : 2 * kPanelRows;
    cursor.scale = Set::scales(format.scales, cursor.at);
    cursor.at += bytes;
    if (format.minima) {
      cursor.minimum = Set::scales(format.scales, cursor.at);
      cursor.at += bytes;
    }
  }
}

// Bit `bit` of the codes of a quad of a block, in place.
template <typename Set, int kBit>
CORTEX_INLINE typename Set::Integers code_plane(const std::byte* at, int quad) {
  const auto bits = Set::bytes(at + 256 + 64 * (kBit - 4));
  const auto shifted = quad <= kBit ? Set::shifted_left(bits, kBit - quad) : Set::shifted_right(bits, quad - kBit);
  return Set::masked(shifted, 1 << kBit);
}

// The codes of a quad of a block, a byte each: [16 rows][4 columns].
template <typename Set, int kBits>
CORTEX_INLINE typename Set::Integers code_quad(const std::byte* at, int quad) {
  if constexpr (kBits == 8) {
    return Set::bytes(at + 64 * quad);
  } else {
    auto codes = Set::bytes(at + 64 * (quad % 4));
    if (quad >= 4) codes = Set::shifted_right(codes, 4);
    codes = Set::masked(codes, 15);
    if constexpr (kBits >= 5) codes = Set::joined(codes, code_plane<Set, 4>(at, quad));
    if constexpr (kBits >= 6) codes = Set::joined(codes, code_plane<Set, 5>(at, quad));
    return codes;
  }
}

// What a tile ends with: bias, and what LinearEnd says. sums [rows][panels][16].
[[gnu::noinline]] void end_tile(const LinearTask& task, int row, int rows, int panel, int panels, const float* sums) {
  for (int r = 0; r < rows; ++r, sums += kPanelRows * panels) {
    float* out = task.out + static_cast<std::size_t>(row + r) * task.out_stride;
    for (int p = 0; p < panels; ++p) {
      Lanes values = load(sums + kPanelRows * p);
      if (task.bias != nullptr) values += load(task.bias + kPanelRows * (panel + p));
      if (task.end == LinearEnd::gate) {
        float* to = out + kPanelRows * ((panel + p) / 2);
        store(to, p % 2 == 0 ? activated(task.activation, values) : load(to) * values);
      } else {
        float* to = out + kPanelRows * (panel + p);
        if (task.end == LinearEnd::add) values += load(to);
        if (task.end == LinearEnd::activate) values = activated(task.activation, values);
        store(to, values);
      }
    }
  }
}

template <typename Floats, int kRows, int kPanels>
CORTEX_INLINE void end_tile(const LinearTask& task, int row, int panel, const Floats (&sums)[kRows][kPanels]) {
  static_assert(sizeof sums == sizeof(float) * kRows * kPanels * kPanelRows);
  float values[kRows * kPanels * kPanelRows];
  std::memcpy(values, sums, sizeof values);
  end_tile(task, row, kRows, panel, kPanels, values);
}

// Set::add_quads adds the products of quads [kFirst, kLast) of a block to sums that Set::start has begun.
template <typename Set, int kBits, bool kTwoLevel, bool kHalves>
struct Int8Tile {
  using Tiles = Set;
  using Floats = typename Set::Floats;
  using Integers = typename Set::Integers;

  // What is summed up of one block, or of its low or high 16 columns.
  template <int kPart, int kRows, int kPanels>
  static CORTEX_INLINE void add_part(const LinearTask& task, int row, int block,
                                     const PanelCursor<Set> (&cursors)[kPanels],
                                     const std::byte* const (&codes)[kPanels], const std::int8_t* const (&in)[kRows],
                                     Floats (&out)[kRows][kPanels]) {
    const PackedFormat& format = task.matrix->format;
    const std::size_t groups = static_cast<std::size_t>(task.in.columns) / kBlockColumns;
    const std::size_t group = static_cast<std::size_t>(row) * groups + static_cast<std::size_t>(block);
    Integers sums[kRows][kPanels];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::int32_t* halves = task.in.negative_sums + 2 * (group + static_cast<std::size_t>(r) * groups);
      const Integers start = Set::template start<kBits>(halves, kHalves ? kPart : -1, format.zero_shift);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) sums[r][p] = start;
    }
    Set::template add_quads<kBits, kHalves ? 4 * kPart : 0, kHalves ? 4 * kPart + 4 : 8>(codes, in, sums);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats scale = Set::broadcast(task.in.scales[group + static_cast<std::size_t>(r) * groups]);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        const Floats product = Set::product(kPart == 1 ? cursors[p].high_scale : cursors[p].scale, scale);
        out[r][p] = Set::multiply_add(Set::floats(sums[r][p]), product, out[r][p]);
      }
      if (format.minima) {
        const Floats sum = Set::broadcast(task.in.scaled_sums[group + static_cast<std::size_t>(r) * groups]);
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) out[r][p] = Set::multiply_add(cursors[p].minimum, sum, out[r][p]);
      }
    }
  }

  template <int kRows, int kPanels>
  static CORTEX_INLINE void run(const LinearTask& task, int row, int panel) {
    const PackedMatrix& matrix = *task.matrix;
    const PackedFormat format = matrix.format;
    const int blocks = matrix.blocks();
    const int group_blocks = format.group_columns < kBlockColumns ? 1 : format.group_columns / kBlockColumns;
    const bool prefetches = row == task.first_row;
    const auto panel_bytes = static_cast<std::ptrdiff_t>(matrix.panel_bytes());
    const std::byte* last_near = matrix.panel(panel) + panel_bytes - kPrefetchBytes;

    PanelCursor<Set> cursors[kPanels];
    for (int p = 0; p < kPanels; ++p) cursors[p].at = matrix.panel(panel + p);
    const std::int8_t* in[kRows];
    Floats out[kRows][kPanels];
    for (int r = 0; r < kRows; ++r) {
      in[r] = task.in.codes + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(task.in.columns);
      for (int p = 0; p < kPanels; ++p) out[r][p] = Set::zeros();
    }
    for (int block = 0; block < blocks; ++block) {
      const std::byte* codes[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        if (block % group_blocks == 0) read_header<Set, kTwoLevel, kHalves>(cursors[p], format, block);
        codes[p] = cursors[p].at;
        cursors[p].at += kBits * 64;
        if (prefetches) {
          const std::byte* ahead =
              cursors[p].at + kPrefetchBytes + (cursors[0].at < last_near ? 0 : (kPanels - 1) * panel_bytes);
#pragma GCC unroll 8
          for (int line = 0; line < kBits; ++line) __builtin_prefetch(ahead + 64 * line);
        }
      }
      add_part<0>(task, row, block, cursors, codes, in, out);
      if constexpr (kHalves) add_part<1>(task, row, block, cursors, codes, in, out);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) in[r] += kBlockColumns;
    }
    end_tile(task, row, panel, out);
  }
};

// Tiles that take panels one after another: Sums::add_panel makes the sums of some rows and one panel.
template <typename Set, typename Sums>
struct PanelwiseTile {
  using Tiles = Set;

  template <int kRows, int kPanels>
  static CORTEX_INLINE void run(const LinearTask& task, int row, int panel) {
    typename Set::Floats out[kRows][kPanels];
    for (int p = 0; p < kPanels; ++p) {
      typename Set::Floats sums[kRows];
      Sums::add_panel(task, row, panel + p, sums);
      for (int r = 0; r < kRows; ++r) out[r][p] = sums[r];
    }
    end_tile(task, row, panel, out);
  }
};

// Each column is widened to float32; products are rounded before they are added, as in the twin. kBits 16 and 32:
// bfloat16 and float32.
template <typename Set, int kBits>
struct FloatSums {
  using Floats = typename Set::Floats;

  template <int kRows>
  static CORTEX_INLINE void add_column(const Floats& weights, const float* const (&in)[kRows], int column,
                                       Floats (&sums)[kRows]) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      sums[r] = Set::sum(sums[r], Set::product(weights, Set::broadcast(in[r][column])));
    }
  }

  static CORTEX_INLINE void read_scales(PanelCursor<Set>& cursor, const PackedFormat& format, int block) {
    if (format.scales != ScaleKind::two_level) {
      read_header<Set, false, false>(cursor, format, block);
    } else if (kBits == 6) {
      return read_header<Set, true, true>(cursor, format, block);
    } else {
      read_header<Set, true, false>(cursor, format, block);
    }
    cursor.high_scale = cursor.scale;
  }

  template <int kRows>
  static CORTEX_INLINE void add_codes(const PanelCursor<Set>& cursor, const PackedFormat& format,
                                      const float* const (&in)[kRows], Floats (&sums)[kRows]) {
    const auto zero = Set::broadcast(format.zero_shift > 0 ? static_cast<float>(1 << format.zero_shift) : 0.0f);
#pragma GCC unroll 8
    for (int quad = 0; quad < kBlockColumns / 4; ++quad) {
      const auto codes = code_quad<Set, kBits>(cursor.at, quad);
      const Floats& scale = quad >= 4 ? cursor.high_scale : cursor.scale;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Floats weights = Set::product(Set::difference(Set::byte_floats(codes, i), zero), scale);
        if (format.minima) weights = Set::sum(weights, cursor.minimum);
        add_column(weights, in, 4 * quad + i, sums);
      }
    }
  }

  template <int kRows>
  static CORTEX_INLINE void add_block(const PanelCursor<Set>& cursor, const PackedFormat& format,
                                      const float* const (&in)[kRows], Floats (&sums)[kRows]) {
    if constexpr (kBits <= 8) {
      add_codes(cursor, format, in, sums);
    } else if constexpr (kBits == 16) {
#pragma GCC unroll 2
      for (int column = 0; column < kBlockColumns; column += 2) {
        const auto pair = Set::bytes(cursor.at + 32 * column);
        add_column(Set::first_of_pairs(pair), in, column, sums);
        add_column(Set::second_of_pairs(pair), in, column + 1, sums);
      }
    } else {
#pragma GCC unroll 2
      for (int column = 0; column < kBlockColumns; ++column) {
        add_column(Set::scales(ScaleKind::f32, cursor.at + 64 * column), in, column, sums);
      }
    }
  }

  template <int kRows>
  static void add_panel(const LinearTask& task, int row, int panel, Floats (&out)[kRows]) {
    const PackedMatrix& matrix = *task.matrix;
    const PackedFormat format = matrix.format;
    const int group_blocks = format.group_columns < kBlockColumns ? 1 : format.group_columns / kBlockColumns;
    const int blocks = matrix.blocks();
    PanelCursor<Set> cursor;
    cursor.at = matrix.panel(panel);
    const float* in[kRows];
    Floats sums[kRows];
    for (int r = 0; r < kRows; ++r) {
      in[r] = task.in.values + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(task.in.columns);
      sums[r] = Set::zeros();
    }
    for (int block = 0; block < blocks; ++block) {
      if (kBits <= 8 && block % group_blocks == 0) read_scales(cursor, format, block);
      add_block(cursor, format, in, sums);
      cursor.at += block_bytes(format);
      for (int r = 0; r < kRows; ++r) in[r] += kBlockColumns;
    }
    for (int r = 0; r < kRows; ++r) out[r] = sums[r];
  }
};

// bfloat16 pairs by pairs, the second of a pair first. A product of two is exact in float32, so that rounding it, as
// the twin does, changes nothing.
template <typename Set>
struct Bf16Sums {
  using Floats = typename Set::Floats;

  template <int kRows>
  static void add_panel(const LinearTask& task, int row, int panel, Floats (&out)[kRows]) {
    const int pairs = task.matrix->blocks() * kBlockColumns / 2;
    const std::byte* at = task.matrix->panel(panel);
    const std::uint16_t* in[kRows];
    Floats sums[kRows];
    for (int r = 0; r < kRows; ++r) {
      in[r] = task.in.halves + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(task.in.columns);
      sums[r] = Set::zeros();
    }
    for (int pair = 0; pair < pairs; ++pair) {
      const auto columns = Set::bytes(at + 64 * pair);
      const Floats first = Set::first_of_pairs(columns);
      const Floats second = Set::second_of_pairs(columns);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        std::int32_t two;
        std::memcpy(&two, in[r] + 2 * pair, sizeof two);
        const auto values = Set::broadcast_bits(two);
        sums[r] = Set::multiply_add(second, Set::second_of_pairs(values), sums[r]);
        sums[r] = Set::multiply_add(first, Set::first_of_pairs(values), sums[r]);
      }
    }
    for (int r = 0; r < kRows; ++r) out[r] = sums[r];
  }
};

// The rows of a task over kPanels panels from `panel` on.
template <typename Tile, int kPanels>
CORTEX_INLINE void tile_rows(const LinearTask& task, int panel) {
  constexpr int kMost = Tile::Tiles::kMostRows;
  static_assert(kMost <= 6);
  int row = task.first_row;
  int left = task.rows;
  // Nearly equal tiles: 16 rows are 6, 5 and 5.
  while (left > 0) {
    const int tiles = (left + kMost - 1) / kMost;
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
        if constexpr (kMost >= 5) Tile::template run<5, kPanels>(task, row, panel);
        break;
      default:
        if constexpr (kMost >= 6) Tile::template run<6, kPanels>(task, row, panel);
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
  if constexpr (Tile::Tiles::kWide) {
    if (task.rows <= 2) {
      for (; panel + 4 <= end; panel += 4) {
        if (task.rows == 1) {
          Tile::template run<1, 4>(task, task.first_row, panel);
        } else {
          Tile::template run<2, 4>(task, task.first_row, panel);
        }
      }
    }
  }
  for (; panel + 2 <= end; panel += 2) tile_rows<Tile, 2>(task, panel);
  if (panel < end) tile_rows<Tile, 1>(task, panel);
}

template <typename Set>
void linear_int8_tiles(const LinearTask& task) {
  const bool two_level = task.matrix->format.scales == ScaleKind::two_level;
  switch (task.matrix->format.bits) {
    case 4:
      return two_level ? linear_tiles<Int8Tile<Set, 4, true, false>>(task)
                       : linear_tiles<Int8Tile<Set, 4, false, false>>(task);
    case 5:
      return two_level ? linear_tiles<Int8Tile<Set, 5, true, false>>(task)
                       : linear_tiles<Int8Tile<Set, 5, false, false>>(task);
    case 6:
      return two_level ? linear_tiles<Int8Tile<Set, 6, true, true>>(task)
                       : linear_tiles<Int8Tile<Set, 6, false, false>>(task);
    default:
      return linear_tiles<Int8Tile<Set, 8, false, false>>(task);
  }
}

template <typename Set>
void linear_bf16_tiles(const LinearTask& task) {
  linear_tiles<PanelwiseTile<Set, Bf16Sums<Set>>>(task);
}

template <typename Set>
void linear_f32_tiles(const LinearTask& task) {
  switch (task.matrix->format.bits) {
    case 4:
      return linear_tiles<PanelwiseTile<Set, FloatSums<Set, 4>>>(task);
    case 5:
      return linear_tiles<PanelwiseTile<Set, FloatSums<Set, 5>>>(task);
    case 6:
      return linear_tiles<PanelwiseTile<Set, FloatSums<Set, 6>>>(task);
    case 8:
      return linear_tiles<PanelwiseTile<Set, FloatSums<Set, 8>>>(task);
    case 16:
      return linear_tiles<PanelwiseTile<Set, FloatSums<Set, 16>>>(task);
    default:
      return linear_tiles<PanelwiseTile<Set, FloatSums<Set, 32>>>(task);
  }
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace
}  // namespace cortex
