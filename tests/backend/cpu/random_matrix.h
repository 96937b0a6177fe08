// Packed matrices of random codes, scales and minima in any format, laid out by packed_matrix.h's words alone, and what
// they hold in double precision: what the products are compared with.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/packed_matrix.h"

namespace cortex {

enum class Codes { random, lowest, highest };
enum class Scales { random, zero, subnormal };  // subnormal: of their own type, nothing else among them

inline double value_of_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

inline float value_of_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// "6 bits, groups of 16, two_level, zero point 32"
inline std::string describe(const PackedFormat& format) {
  static constexpr const char* kScales[] = {"f16", "bf16", "f32", "two_level"};
  std::string text = std::to_string(format.bits) + " bits";
  if (!format.coded()) return text;
  text += ", groups of " + std::to_string(format.group_columns) + ", " + kScales[static_cast<int>(format.scales)];
  if (format.minima) text += ", minima";
  if (format.zero_shift > 0) text += ", zero point " + std::to_string(1 << format.zero_shift);
  return text;
}

// Each that a file's format is packed as.
inline std::vector<PackedFormat> coded_formats() {
  std::vector<PackedFormat> formats = {
      {4, 32, ScaleKind::f16, false, 3},      {5, 32, ScaleKind::f16, false, 4},
      {8, 32, ScaleKind::f16, false, 7},      {4, 32, ScaleKind::two_level, true, 0},
      {5, 32, ScaleKind::two_level, true, 0}, {6, 16, ScaleKind::two_level, false, 5},
  };
  for (const int bits : {4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      for (const ScaleKind scales : {ScaleKind::f16, ScaleKind::bf16, ScaleKind::f32}) {
        formats.push_back({bits, group, scales, true, 0});
      }
    }
  }
  return formats;
}

class RandomMatrix {
 public:
  RandomMatrix(const PackedFormat& format, int rows, int columns, std::mt19937& random, Codes codes = Codes::random,
               Scales scales = Scales::random)
      : format_(format),
        columns_(columns),
        padded_(padded_columns(format, columns)),
        codes_kind_(codes),
        scales_kind_(scales),
        random_(random) {
    matrix_ = {.format = format, .rows = rows, .columns = columns};
    const auto elements = static_cast<std::size_t>(matrix_.panels() * kPanelRows) * static_cast<std::size_t>(padded_);
    values_.resize(elements);
    scales_.resize(elements);
    minima_.resize(elements);
    codes_.resize(elements);
    for (int panel = 0; panel < matrix_.panels(); ++panel) {
      for (int block = 0; block < padded_ / kBlockColumns; ++block) put_block(panel, block);
    }
    // Aligned as an arena is, and with nothing behind the last byte that may be read.
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, (bytes_.size() + 63) / 64 * 64)));
    std::memcpy(data_.get(), bytes_.data(), bytes_.size());
    matrix_.data = data_.get();
  }

  const PackedMatrix& packed() const { return matrix_; }
  std::size_t bytes() const { return bytes_.size(); }
  int padded() const { return padded_; }

  // Of a row, which may be of the padding, and a column of the padded ones.
  double value(int row, int column) const { return values_[at(row, column)]; }
  double scale(int row, int column) const { return scales_[at(row, column)]; }
  double minimum(int row, int column) const { return minima_[at(row, column)]; }
  int code(int row, int column) const { return codes_[at(row, column)]; }  // less the zero point

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  struct Vector {
    double lanes[kPanelRows];
  };

  std::size_t at(int row, int column) const {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(padded_) + static_cast<std::size_t>(column);
  }

  bool is_padding(int row, int column) const { return row >= matrix_.rows || column >= columns_; }

  template <typename T>
  void put(T value) {
    const std::size_t size = bytes_.size();
    bytes_.resize(size + sizeof value);
    std::memcpy(bytes_.data() + size, &value, sizeof value);
  }

  // Puts a scale or minimum of a row; says what it is.
  double put_scale(ScaleKind kind, bool zero) {
    const std::uint32_t any = random_();
    zero = zero || scales_kind_ == Scales::zero;
    const bool subnormal = scales_kind_ == Scales::subnormal;
    if (kind == ScaleKind::f32) {
      const std::uint32_t exponent = subnormal ? 0 : 118 + (any >> 24 & 3);
      const std::uint32_t bits = zero ? 0 : (any & 0x807fffffu) | exponent << 23;
      put(bits);
      return value_of_bits(bits);
    }
    const bool half = kind == ScaleKind::f16;
    const std::uint32_t exponent = subnormal ? 0 : (half ? 6 : 118) + (any >> 24 & 3);
    const auto bits = static_cast<std::uint16_t>(zero   ? 0
                                                 : half ? (any & 0x83ffu) | exponent << 10
                                                        : (any & 0x807fu) | exponent << 7);
    put(bits);
    return half ? value_of_half(bits) : value_of_bits(static_cast<std::uint32_t>(bits) << 16);
  }

  Vector put_scales(ScaleKind kind, int panel, int column) {
    Vector vector{};
    for (int r = 0; r < kPanelRows; ++r) {
      vector.lanes[r] = put_scale(kind, is_padding(panel * kPanelRows + r, column));
    }
    return vector;
  }

  // Bytes that multiply a vector.
  Vector put_multipliers(const Vector& super, bool is_signed, int panel, int column) {
    Vector vector{};
    for (int r = 0; r < kPanelRows; ++r) {
      const auto any = static_cast<int>(random_() % 256);
      int byte = is_signed ? any - 128 : any % 64;
      if (is_padding(panel * kPanelRows + r, column)) byte = 0;
      put(static_cast<std::uint8_t>(byte));
      vector.lanes[r] = super.lanes[r] * byte;
    }
    return vector;
  }

  void put_header(int panel, int block) {
    const int column = block * kBlockColumns;
    if (format_.scales != ScaleKind::two_level) {
      scale_[0] = scale_[1] = put_scales(format_.scales, panel, column);
      minimum_ = format_.minima ? put_scales(format_.scales, panel, column) : Vector{};
      return;
    }
    if (format_.group_columns < kBlockColumns) {
      for (int half = 0; half < 2; ++half) scale_[half] = put_multipliers(super_, true, panel, column + 16 * half);
      return;
    }
    scale_[0] = scale_[1] = put_multipliers(super_, false, panel, column);
    minimum_ = put_multipliers(super_minimum_, false, panel, column);
    for (double& lane : minimum_.lanes) lane = -lane;
  }

  int draw_code(int row, int column) {
    const int any = static_cast<int>(random_()) & ((1 << format_.bits) - 1);
    if (is_padding(row, column) || codes_kind_ == Codes::lowest) return 0;
    return codes_kind_ == Codes::highest ? (1 << format_.bits) - 1 : any;
  }

  void put_codes(int panel, int block) {
    std::vector<std::uint8_t> bytes(block_bytes(format_));
    for (int row = 0; row < kPanelRows; ++row) {
      for (int k = 0; k < kBlockColumns; ++k) {
        const int column = block * kBlockColumns + k;
        const int code = draw_code(panel * kPanelRows + row, column);
        const int quad = k / 4;
        const int lane = row * 4 + k % 4;
        if (format_.bits == 8) {
          bytes[static_cast<std::size_t>(quad * 64 + lane)] = static_cast<std::uint8_t>(code);
        } else {
          bytes[static_cast<std::size_t>(quad % 4 * 64 + lane)] |=
              static_cast<std::uint8_t>((code & 15) << (quad < 4 ? 0 : 4));
          for (int bit = 4; bit < format_.bits; ++bit) {
            bytes[static_cast<std::size_t>(256 + (bit - 4) * 64 + lane)] |=
                static_cast<std::uint8_t>((code >> bit & 1) << quad);
          }
        }
        const std::size_t index = at(panel * kPanelRows + row, column);
        codes_[index] = code - (format_.zero_shift > 0 ? 1 << format_.zero_shift : 0);
        scales_[index] = scale_[k / 16].lanes[row];
        minima_[index] = format_.minima ? minimum_.lanes[row] : 0.0;
        values_[index] = scales_[index] * codes_[index] + minima_[index];
      }
    }
    bytes_.insert(bytes_.end(), reinterpret_cast<std::byte*>(bytes.data()),
                  reinterpret_cast<std::byte*>(bytes.data() + bytes.size()));
  }

  // Values of both signs and of magnitudes about one, as they are.
  void put_values(int panel, int block) {
    const int pair = format_.bits == 16 ? 2 : 1;
    for (int k = 0; k < kBlockColumns; k += pair) {
      for (int row = 0; row < kPanelRows; ++row) {
        for (int i = 0; i < pair; ++i) {
          const int column = block * kBlockColumns + k + i;
          const std::uint32_t any = random_();
          std::uint32_t bits = (any & 0x807fffffu) | (124 + (any >> 24 & 3)) << 23;
          if (is_padding(panel * kPanelRows + row, column)) bits = 0;
          if (format_.bits == 16) {
            bits &= 0xffff0000u;
            put(static_cast<std::uint16_t>(bits >> 16));
          } else {
            put(bits);
          }
          values_[at(panel * kPanelRows + row, column)] = value_of_bits(bits);
        }
      }
    }
  }

  void put_block(int panel, int block) {
    if (!format_.coded()) return put_values(panel, block);
    if (super_header_bytes(format_) > 0 && block % (kSuperColumns / kBlockColumns) == 0) {
      super_ = put_scales(ScaleKind::f16, panel, block * kBlockColumns);
      if (format_.minima) super_minimum_ = put_scales(ScaleKind::f16, panel, block * kBlockColumns);
    }
    if (block * kBlockColumns % format_.group_columns == 0 || format_.group_columns < kBlockColumns) {
      put_header(panel, block);
    }
    put_codes(panel, block);
  }

  const PackedFormat format_;
  const int columns_;
  const int padded_;
  const Codes codes_kind_;
  const Scales scales_kind_;
  std::mt19937& random_;
  PackedMatrix matrix_;
  std::vector<std::byte> bytes_;
  std::unique_ptr<std::byte[], Free> data_;
  std::vector<double> values_, scales_, minima_;  // [rows, padded columns]
  std::vector<int> codes_;                        // [rows, padded columns]
  Vector super_{}, super_minimum_{}, scale_[2]{}, minimum_{};
};

}  // namespace cortex
