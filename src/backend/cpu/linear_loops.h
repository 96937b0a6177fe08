// Rows times a packed matrix as plain loops: the twin that every fast kernel is compared with, and what processors
// without one use. A block of a panel is unpacked, then all rows pass over it. Included by the file of each instruction
// set after loops.h, nobody else.
#pragma once

#include "backend/cpu/linear.h"
#include "backend/cpu/loops.h"

namespace cortex {
namespace {

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): offsets inside a panel or a row are small.

// The codes of a block, [32 columns][16 rows], and what they are scaled by.
struct PlainBlock {
  std::int32_t codes[kBlockColumns][kPanelRows];
  float scales[2][kPanelRows];  // of the low and the high 16 columns
  float minima[kPanelRows];
};

CORTEX_INLINE std::uint16_t load16(const std::byte* from) {
  std::uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

CORTEX_INLINE float float_of_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Subnormal halves are scaled up into float32's normal range first.
CORTEX_INLINE float float_of_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t rest = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
  if (rest >= 0x0f800000u) return float_of_bits(sign | 0x7f800000u | (rest & 0x007fffffu));
  const float magnitude = float_of_bits(rest + (rest < 0x00800000u ? 0x38800000u : 0x38000000u)) -
                          (rest < 0x00800000u ? float_of_bits(0x38800000u) : 0.0f);
  return sign != 0 ? -magnitude : magnitude;
}

CORTEX_INLINE float plain_scale(ScaleKind kind, const std::byte* from, int row) {
  if (kind == ScaleKind::f16) return float_of_half(load16(from + 2 * row));
  if (kind == ScaleKind::bf16) return float_of_bits(static_cast<std::uint32_t>(load16(from + 2 * row)) << 16);
  float value;
  std::memcpy(&value, from + 4 * row, sizeof value);
  return value;
}

// Reads a panel block by block.
class PlainPanel {
 public:
  CORTEX_INLINE PlainPanel(const PackedMatrix& matrix, int panel) : format_(matrix.format), at_(matrix.panel(panel)) {}

  CORTEX_INLINE void next(PlainBlock& block) {
    read_header(block);
    for (int column = 0; column < kBlockColumns; ++column) {
      for (int row = 0; row < kPanelRows; ++row) block.codes[column][row] = code(column, row);
    }
    at_ += block_bytes(format_);
    ++index_;
  }

 private:
  CORTEX_INLINE int byte_at(int offset) const { return static_cast<int>(at_[offset]); }

  CORTEX_INLINE int code(int column, int row) const {
    const int quad = column / 4;
    const int lane = 4 * row + column % 4;
    if (format_.bits == 8) return byte_at(64 * quad + lane);
    int value = byte_at(64 * (quad % 4) + lane) >> (quad / 4 * 4) & 15;
    for (int bit = 4; bit < format_.bits; ++bit) value |= (byte_at(256 + 64 * (bit - 4) + lane) >> quad & 1) << bit;
    return value;
  }

  CORTEX_INLINE void read_header(PlainBlock& block) {
    const bool two_level = format_.scales == ScaleKind::two_level;
    if (two_level && index_ % (kSuperColumns / kBlockColumns) == 0) {
      super_ = at_;
      at_ += super_header_bytes(format_);
    }
    const int group_blocks = format_.group_columns < kBlockColumns ? 1 : format_.group_columns / kBlockColumns;
    if (index_ % group_blocks != 0) return;
    const auto vector = static_cast<std::ptrdiff_t>(group_header_bytes(format_)) /
                        ((format_.minima ? 2 : 1) * (format_.group_columns < kBlockColumns ? 2 : 1));
    for (int row = 0; row < kPanelRows; ++row) {
      if (!two_level) {
        block.scales[0][row] = plain_scale(format_.scales, at_, row);
        block.scales[1][row] = block.scales[0][row];
        if (format_.minima) block.minima[row] = plain_scale(format_.scales, at_ + vector, row);
        continue;
      }
      const float super = plain_scale(ScaleKind::f16, super_, row);
      if (format_.group_columns < kBlockColumns) {
        for (int half = 0; half < 2; ++half) {
          block.scales[half][row] = super * static_cast<float>(static_cast<std::int8_t>(at_[half * vector + row]));
        }
        continue;
      }
      block.scales[0][row] = super * static_cast<float>(static_cast<int>(at_[row]));
      block.scales[1][row] = block.scales[0][row];
      const float super_minimum = plain_scale(ScaleKind::f16, super_ + 2 * kPanelRows, row);
      block.minima[row] = -(super_minimum * static_cast<float>(static_cast<int>(at_[vector + row])));
    }
    at_ += group_header_bytes(format_);
  }

  const PackedFormat format_;
  const std::byte* at_;
  const std::byte* super_ = nullptr;
  int index_ = 0;
};

// Rows that share an unpacked block.
constexpr int kPlainRows = 64;

CORTEX_INLINE void end_rows(const LinearTask& task, int row, int rows, int panel, Lanes (*sums)[kPlainRows]) {
  // sums[0] of the panel; sums[1] of the next with LinearEnd::gate.
  const int count = task.end == LinearEnd::gate ? 2 : 1;
  for (int r = 0; r < rows; ++r) {
    float* out = task.out + static_cast<std::size_t>(row + r) * task.out_stride;
    for (int p = 0; p < count; ++p) {
      if (task.bias != nullptr) sums[p][r] += load(task.bias + kPanelRows * (panel + p));
    }
    if (task.end == LinearEnd::gate) {
      store(out + kPanelRows * (panel / 2), activated(task.activation, sums[0][r]) * sums[1][r]);
      continue;
    }
    float* to = out + kPanelRows * panel;
    if (task.end == LinearEnd::add) sums[0][r] += load(to);
    if (task.end == LinearEnd::activate) sums[0][r] = activated(task.activation, sums[0][r]);
    store(to, sums[0][r]);
  }
}

CORTEX_INLINE Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
  for (int lane = 0; lane < kLanes; ++lane) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
  return c;
}

CORTEX_INLINE void add_block_int8(const PlainBlock& block, const PackedFormat& format, const LinearInput& in, int row,
                                  int index, Lanes& sum) {
  const std::size_t group = static_cast<std::size_t>(row) * static_cast<std::size_t>(in.columns / kBlockColumns) +
                            static_cast<std::size_t>(index);
  const std::int8_t* codes =
      in.codes + static_cast<std::size_t>(row) * static_cast<std::size_t>(in.columns) + kBlockColumns * index;
  const std::int32_t zero = format.zero_shift > 0 ? 1 << format.zero_shift : 0;
  const bool halves = format.group_columns < kBlockColumns;
  LaneBits integers[2];
  for (int half = 0; half < 2; ++half) {
    integers[half] = LaneBits{} + zero * in.negative_sums[2 * group + static_cast<std::size_t>(half)];
    for (int column = 16 * half; column < 16 * half + 16; ++column) {
      LaneBits weights;
      std::memcpy(&weights, block.codes[column], sizeof weights);
      integers[half] += weights * static_cast<std::int32_t>(codes[column]);
    }
  }
  if (!halves) integers[0] += integers[1];
  for (int half = 0; half < (halves ? 2 : 1); ++half) {
    sum =
        multiply_add(__builtin_convertvector(integers[half], Lanes), load(block.scales[half]) * in.scales[group], sum);
  }
  if (format.minima) sum = multiply_add(load(block.minima), broadcast(in.scaled_sums[group]), sum);
}

void linear_int8_loops(const LinearTask& task) {
  const int step = task.end == LinearEnd::gate ? 2 : 1;
  for (int panel = task.first_panel; panel < task.first_panel + task.panels; panel += step) {
    for (int first = 0; first < task.rows; first += kPlainRows) {
      const int rows = task.rows - first < kPlainRows ? task.rows - first : kPlainRows;
      Lanes sums[2][kPlainRows] = {};
      for (int p = 0; p < step; ++p) {
        PlainPanel reader(*task.matrix, panel + p);
        PlainBlock block;
        for (int index = 0; index < task.matrix->blocks(); ++index) {
          reader.next(block);
          for (int r = 0; r < rows; ++r) {
            add_block_int8(block, task.matrix->format, task.in, task.first_row + first + r, index, sums[p][r]);
          }
        }
      }
      end_rows(task, task.first_row + first, rows, panel, sums);
    }
  }
}

// bfloat16 pairs by pairs, each product and sum rounded to float32, the second of a pair first.
void linear_bf16_loops(const LinearTask& task) {
  const int step = task.end == LinearEnd::gate ? 2 : 1;
  const int pairs = task.matrix->blocks() * kBlockColumns / 2;
  for (int panel = task.first_panel; panel < task.first_panel + task.panels; panel += step) {
    for (int first = 0; first < task.rows; first += kPlainRows) {
      const int rows = task.rows - first < kPlainRows ? task.rows - first : kPlainRows;
      Lanes sums[2][kPlainRows] = {};
      for (int p = 0; p < step; ++p) {
        const std::byte* at = task.matrix->panel(panel + p);
        for (int pair = 0; pair < pairs; ++pair, at += 64) {
          LaneBits bits;
          std::memcpy(&bits, at, sizeof bits);
          const LaneBits low_bits = bits << 16;
          const LaneBits high_bits = bits & static_cast<std::int32_t>(0xffff0000u);
          Lanes low, high;
          std::memcpy(&low, &low_bits, sizeof low);
          std::memcpy(&high, &high_bits, sizeof high);
          for (int r = 0; r < rows; ++r) {
            const std::uint16_t* in = task.in.halves + static_cast<std::size_t>(task.first_row + first + r) *
                                                           static_cast<std::size_t>(task.in.columns);
            sums[p][r] += high * float_of_bits(static_cast<std::uint32_t>(in[2 * pair + 1]) << 16);
            sums[p][r] += low * float_of_bits(static_cast<std::uint32_t>(in[2 * pair]) << 16);
          }
        }
      }
      end_rows(task, task.first_row + first, rows, panel, sums);
    }
  }
}

// Columns [32 index, 32 index + 32) of a panel as float32, [32][16], from where `at` is; moves on.
class FloatPanel {
 public:
  CORTEX_INLINE FloatPanel(const PackedMatrix& matrix, int panel)
      : format_(matrix.format), codes_(matrix, panel), at_(matrix.panel(panel)) {}

  CORTEX_INLINE void next(float (*out)[kPanelRows]) {
    if (format_.coded()) return next_codes(out);
    for (int column = 0; column < kBlockColumns; ++column) {
      for (int row = 0; row < kPanelRows; ++row) {
        out[column][row] =
            format_.bits == 16
                ? float_of_bits(static_cast<std::uint32_t>(load16(at_ + 64 * (column / 2) + 4 * row + 2 * (column % 2)))
                                << 16)
                : plain_scale(ScaleKind::f32, at_ + 64 * column, row);
      }
    }
    at_ += block_bytes(format_);
  }

 private:
  CORTEX_INLINE void next_codes(float (*out)[kPanelRows]) {
    codes_.next(block_);
    const std::int32_t zero = format_.zero_shift > 0 ? 1 << format_.zero_shift : 0;
    for (int column = 0; column < kBlockColumns; ++column) {
      for (int row = 0; row < kPanelRows; ++row) {
        const float value = static_cast<float>(block_.codes[column][row] - zero) * block_.scales[column / 16][row];
        out[column][row] = format_.minima ? value + block_.minima[row] : value;
      }
    }
  }

  const PackedFormat format_;
  PlainPanel codes_;
  PlainBlock block_;
  const std::byte* at_;
};

template <int kRows>
CORTEX_INLINE void add_columns(const float (*weights)[kPanelRows], const float* in, std::size_t stride, Lanes* out) {
  Lanes sums[kRows];
  for (int r = 0; r < kRows; ++r) sums[r] = out[r];
  for (int column = 0; column < kBlockColumns; ++column) {
    const Lanes weight = load(weights[column]);
    for (int r = 0; r < kRows; ++r)
      sums[r] += weight * in[static_cast<std::size_t>(r) * stride + static_cast<std::size_t>(column)];
  }
  for (int r = 0; r < kRows; ++r) out[r] = sums[r];
}

// A panel at a time is unpacked into float32, 32 columns of it, and all rows pass over those.
void linear_f32_loops(const LinearTask& task) {
  const int step = task.end == LinearEnd::gate ? 2 : 1;
  for (int panel = task.first_panel; panel < task.first_panel + task.panels; panel += step) {
    for (int first = 0; first < task.rows; first += kPlainRows) {
      const int rows = task.rows - first < kPlainRows ? task.rows - first : kPlainRows;
      Lanes sums[2][kPlainRows] = {};
      for (int p = 0; p < step; ++p) {
        FloatPanel reader(*task.matrix, panel + p);
        alignas(64) float weights[kBlockColumns][kPanelRows];
        for (int index = 0; index < task.matrix->blocks(); ++index) {
          reader.next(weights);
          const auto stride = static_cast<std::size_t>(task.in.columns);
          const float* in =
              task.in.values + static_cast<std::size_t>(task.first_row + first) * stride + kBlockColumns * index;
          int r = 0;
          for (; r + 4 <= rows; r += 4)
            add_columns<4>(weights, in + static_cast<std::size_t>(r) * stride, stride, &sums[p][r]);
          for (; r < rows; ++r) add_columns<1>(weights, in + static_cast<std::size_t>(r) * stride, stride, &sums[p][r]);
        }
      }
      end_rows(task, task.first_row + first, rows, panel, sums);
    }
  }
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace
}  // namespace cortex
