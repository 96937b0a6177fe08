// A matrix as the kernels stream it: panels of 16 rows, so that a lane of a vector is a row of the matrix and no sum
// ever runs across lanes. Quantised codes stay what their file holds; every map from a file's format is exact
// (packing.h). Filled once on the loading thread, read by the team. What is here is inlined always: a copy that was
// compiled for one instruction set must not serve another.
//
// A panel is one run of bytes. Rows are padded to whole panels, with values of zero; columns to whole groups, with
// finite values, which meet the zeros of a padded input:
//   f32       [columns][16 rows] float32
//   bf16      [columns / 2][16 rows][2 columns] bfloat16
//   codes     [groups] of: the group's scales, its minima, then its blocks of 32 columns
// A block of codes, columns k of 32:
//   4 bits    [4 quads j][16 rows][4 columns i] bytes: low nibble k = 4j + i, high nibble k = 16 + 4j + i   256 bytes
//   5, 6 bits the low four bits so, then one plane of 64 bytes for each further bit: [16 rows][4 columns i] bytes whose
//             bit j is that of k = 4j + i, j < 8                                                        320, 384 bytes
//   8 bits    [8 quads j][16 rows][4 columns i] bytes, k = 4j + i                                            512 bytes
// Scales and minima are [16 rows] of their type. two_level has, before each 256 columns, the super-scales [16 rows] f16
// and, with minima, the super-minima [16 rows] f16; a group then has [16 rows] bytes of each, and a value's scale is
// super-scale * byte (exact in float32), its minimum -(super-minimum * byte). Groups of 16 columns (6 bits, two_level)
// come in twos: signed scale bytes of the low half of a block, of the high half, then the block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/mapped_memory.h"

namespace cortex {

inline constexpr int kPanelRows = 16;
inline constexpr int kBlockColumns = 32;
inline constexpr int kSuperColumns = 256;

enum class ScaleKind : std::uint8_t { f16, bf16, f32, two_level };

// value = scale * (code - zero_point) + minimum
struct PackedFormat {
  int bits = 32;           // 4, 5, 6 or 8: codes; 16: bfloat16; 32: float32
  int group_columns = 32;  // 16 (6 bits, two_level), 32, 64 or 128; codes only
  ScaleKind scales = ScaleKind::f16;
  bool minima = false;
  int zero_shift = 0;  // the zero point is 1 << zero_shift, or 0: there is none

  [[gnu::always_inline]] constexpr bool coded() const { return bits <= 8; }
  bool operator==(const PackedFormat&) const = default;
};

// Bytes of a block of 32 columns.
[[gnu::always_inline]] constexpr std::size_t block_bytes(const PackedFormat& format) {
  if (!format.coded()) return static_cast<std::size_t>(format.bits) / 8 * kPanelRows * kBlockColumns;
  return static_cast<std::size_t>(format.bits) * kPanelRows * kBlockColumns / 8;
}

// Bytes of the scales and minima of a group; of both groups of a block where a group has 16 columns.
[[gnu::always_inline]] constexpr std::size_t group_header_bytes(const PackedFormat& format) {
  if (!format.coded()) return 0;
  std::size_t vectors = format.minima ? 2 : 1;
  if (format.group_columns < kBlockColumns) vectors *= 2;
  const std::size_t bytes = format.scales == ScaleKind::two_level ? 1 : format.scales == ScaleKind::f32 ? 4 : 2;
  return vectors * bytes * kPanelRows;
}

// Bytes that two_level has before each 256 columns.
[[gnu::always_inline]] constexpr std::size_t super_header_bytes(const PackedFormat& format) {
  if (!format.coded() || format.scales != ScaleKind::two_level) return 0;
  const std::size_t vectors = format.minima ? 2 : 1;
  return vectors * 2 * kPanelRows;
}

// `columns` padded to what the format has whole.
[[gnu::always_inline]] constexpr int padded_columns(const PackedFormat& format, int columns) {
  int whole = kBlockColumns;
  if (format.coded() && format.group_columns > whole) whole = format.group_columns;
  if (super_header_bytes(format) > 0) whole = kSuperColumns;
  return (columns + whole - 1) / whole * whole;
}

// `rows` padded to whole panels.
[[gnu::always_inline]] constexpr int padded_rows(int rows) { return (rows + kPanelRows - 1) / kPanelRows * kPanelRows; }

struct PackedMatrix {
  PackedFormat format;
  int rows = 0;                     // of the matrix
  int columns = 0;                  // of the matrix
  const std::byte* data = nullptr;  // [panels()][panel_bytes()], 64-byte aligned; owned by the model's WeightArena

  bool empty() const { return rows == 0; }
  [[gnu::always_inline]] int panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  [[gnu::always_inline]] int blocks() const { return padded_columns(format, columns) / kBlockColumns; }
  [[gnu::always_inline]] std::size_t panel_bytes() const {
    const auto padded = static_cast<std::size_t>(padded_columns(format, columns));
    std::size_t bytes = padded / kBlockColumns * block_bytes(format);
    if (!format.coded()) return bytes;
    const std::size_t group =
        format.group_columns < kBlockColumns ? kBlockColumns : static_cast<std::size_t>(format.group_columns);
    bytes += padded / group * group_header_bytes(format);
    return bytes + padded / kSuperColumns * super_header_bytes(format);
  }
  [[gnu::always_inline]] const std::byte* panel(int index) const {
    return data + static_cast<std::size_t>(index) * panel_bytes();
  }
};

// Row `row` as float32, into out [columns]: what an embedding looks up. Products round as the format's dequantisation
// does: scale * (code - zero_point) is exact, adding the minimum rounds once.
void unpack_row(const PackedMatrix& matrix, int row, float* out);

// Columns [32 * block, 32 * block + 32) of a panel as float32, into out [32 columns][16 rows].
void unpack_block(const PackedMatrix& matrix, int panel, int block, float* out);

}  // namespace cortex
