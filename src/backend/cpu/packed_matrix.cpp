#include "backend/cpu/packed_matrix.h"

#include <bit>
#include <cstring>

#include "base/error.h"
#include "model/float16.h"

namespace cortex {
namespace {

template <typename Number>
Number load(const std::byte* from, int index) {
  Number value;
  std::memcpy(&value, from + static_cast<std::size_t>(index) * sizeof(value), sizeof(value));
  return value;
}

int byte_at(const std::byte* from, int index) { return static_cast<int>(from[index]); }

// Where a block's parts are.
struct Place {
  const std::byte* super = nullptr;   // two_level
  const std::byte* header = nullptr;  // of its group
  const std::byte* block = nullptr;
};

Place place_of(const PackedMatrix& matrix, int panel, int block) {
  const PackedFormat& format = matrix.format;
  const std::byte* const begin = matrix.panel(panel);
  const auto blocks = static_cast<std::size_t>(block);
  if (!format.coded()) return {.block = begin + blocks * block_bytes(format)};
  constexpr std::size_t kSuperBlocks = kSuperColumns / kBlockColumns;
  const std::size_t group_blocks =
      format.group_columns < kBlockColumns ? 1 : static_cast<std::size_t>(format.group_columns) / kBlockColumns;
  // What lies before the header of the group that begins at block `first`, the super-header of its own run included.
  const auto header_at = [&](std::size_t first) {
    return (first / kSuperBlocks + 1) * super_header_bytes(format) + first / group_blocks * group_header_bytes(format) +
           first * block_bytes(format);
  };
  const std::size_t group = blocks / group_blocks * group_blocks;
  Place place;
  place.super = begin + header_at(blocks / kSuperBlocks * kSuperBlocks) - super_header_bytes(format);
  place.header = begin + header_at(group);
  place.block = place.header + group_header_bytes(format) + (blocks - group) * block_bytes(format);
  return place;
}

int code_at(const PackedFormat& format, const std::byte* block, int row, int column) {
  const int quad = column / 4;
  const int lane = 4 * row + column % 4;
  if (format.bits == 8) return byte_at(block, 64 * quad + lane);
  int code = byte_at(block, 64 * (quad % 4) + lane) >> (quad < 4 ? 0 : 4) & 15;
  for (int bit = 4; bit < format.bits; ++bit) {
    code |= (byte_at(block, 256 + 64 * (bit - 4) + lane) >> quad & 1) << bit;
  }
  return code;
}

float scale_at(ScaleKind kind, const std::byte* scales, int row) {
  switch (kind) {
    case ScaleKind::f16:
      return float_of_float16(load<std::uint16_t>(scales, row));
    case ScaleKind::bf16:
      return float_of_bfloat16(load<std::uint16_t>(scales, row));
    default:
      return load<float>(scales, row);
  }
}

// Of a row's share of a block.
struct RowScales {
  float scale[2];  // of the low 16 columns, of the high ones
  float minimum = 0.0f;
};

RowScales scales_at(const PackedFormat& format, const Place& place, int row) {
  if (format.scales != ScaleKind::two_level) {
    const float scale = scale_at(format.scales, place.header, row);
    const std::byte* const minima = place.header + group_header_bytes(format) / 2;
    return {{scale, scale}, format.minima ? scale_at(format.scales, minima, row) : 0.0f};
  }
  const float super = scale_at(ScaleKind::f16, place.super, row);
  if (format.group_columns < kBlockColumns) {
    const auto scale = [&](int half) {
      return super * static_cast<float>(load<std::int8_t>(place.header, kPanelRows * half + row));
    };
    return {{scale(0), scale(1)}};
  }
  const float scale = super * static_cast<float>(byte_at(place.header, row));
  if (!format.minima) return {{scale, scale}};
  const float super_minimum = scale_at(ScaleKind::f16, place.super, kPanelRows + row);
  return {{scale, scale}, -(super_minimum * static_cast<float>(byte_at(place.header, kPanelRows + row)))};
}

// Row `row` of a block into out [32].
void unpack(const PackedFormat& format, const Place& place, int row, float* out) {
  if (!format.coded()) {
    for (int k = 0; k < kBlockColumns; ++k) {
      out[k] = format.bits == 32
                   ? load<float>(place.block, kPanelRows * k + row)
                   : float_of_bfloat16(load<std::uint16_t>(place.block, 2 * kPanelRows * (k / 2) + 2 * row + k % 2));
    }
    return;
  }
  const RowScales scales = scales_at(format, place, row);
  const int zero_point = format.zero_shift > 0 ? 1 << format.zero_shift : 0;
  for (int k = 0; k < kBlockColumns; ++k) {
    out[k] = scales.scale[k / 16] * static_cast<float>(code_at(format, place.block, row, k) - zero_point);
    if (format.minima) out[k] += scales.minimum;
  }
}

}  // namespace

void unpack_row(const PackedMatrix& matrix, int row, float* out) {
  CORTEX_CHECK(row >= 0 && row < matrix.rows);
  for (int first = 0; first < matrix.columns; first += kBlockColumns) {
    float values[kBlockColumns];
    const Place place = place_of(matrix, row / kPanelRows, first / kBlockColumns);
    unpack(matrix.format, place, row % kPanelRows, values);
    const int count = matrix.columns - first < kBlockColumns ? matrix.columns - first : kBlockColumns;
    std::memcpy(out + first, values, static_cast<std::size_t>(count) * sizeof(float));
  }
}

void unpack_block(const PackedMatrix& matrix, int panel, int block, float* out) {
  CORTEX_CHECK(panel >= 0 && panel < matrix.panels() && block >= 0 && block < matrix.blocks());
  const Place place = place_of(matrix, panel, block);
  for (int row = 0; row < kPanelRows; ++row) {
    float values[kBlockColumns];
    unpack(matrix.format, place, row, values);
    for (int k = 0; k < kBlockColumns; ++k) out[kPanelRows * k + row] = values[k];
  }
}

}  // namespace cortex
