#include "backend/cpu/panel_packing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "model/float16.h"

namespace cortex {
namespace {

constexpr std::size_t kRows = kPanelRows;
constexpr std::size_t kColumns = kBlockColumns;
constexpr std::size_t kBlockWords = kColumns / 4;
constexpr std::size_t kSuperBlocks = kSuperColumns / kBlockColumns;
constexpr std::uint32_t kLowNibbles = 0x0F0F0F0F;

// Codes of a block: [rows][columns] bytes, four to a word.
using RowCodes = std::uint32_t[kBlockWords];
using BlockCodes = RowCodes[kRows];

template <typename Number>
Number load(const std::byte* from) {
  Number value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <typename Number>
void store(std::byte* to, Number value) {
  std::memcpy(to, &value, sizeof(value));
}

// kBytes bytes, little end first.
template <int kBytes>
std::uint64_t load_bytes(const std::byte* from) {
  if constexpr (kBytes == 8) {
    return load<std::uint64_t>(from);
  } else if constexpr (kBytes >= 4) {
    return load<std::uint32_t>(from) | load_bytes<kBytes - 4>(from + 4) << 32;
  } else if constexpr (kBytes >= 2) {
    return load<std::uint16_t>(from) | load_bytes<kBytes - 2>(from + 2) << 16;
  } else if constexpr (kBytes == 1) {
    return static_cast<std::uint64_t>(*from);
  } else {
    return 0;
  }
}

// The codes of 16 rows as packed_matrix.h has them; returns where they end.
template <int kBits>
std::byte* write_block(const BlockCodes& codes, std::byte* out) {
  constexpr std::size_t kQuads = kBits == 8 ? 8 : 4;
  constexpr std::size_t kPlanes = kBits == 8 ? 0 : kBits - 4;
  std::uint32_t words[kQuads + kPlanes][kRows];
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t quad = 0; quad < kQuads; ++quad) {
      words[quad][row] = kBits == 8 ? codes[row][quad]
                                    : (codes[row][quad] & kLowNibbles) | (codes[row][quad % 4 + 4] & kLowNibbles) << 4;
    }
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      std::uint32_t bits = 0;
      for (std::size_t quad = 0; quad < kBlockWords; ++quad)
        bits |= (codes[row][quad] >> (4 + plane) & 0x01010101u) << quad;
      words[kQuads + plane][row] = bits;
    }
  }
  std::memcpy(out, words, sizeof(words));
  return out + sizeof(words);
}

// A number of each row, `offset` bytes from where its bytes begin; returns where they end.
template <typename Number>
std::byte* write_column(const std::array<const std::byte*, kRows>& rows, std::size_t offset, std::byte* out) {
  for (const std::byte* row : rows) {
    store(out, load<Number>(row + offset));
    out += sizeof(Number);
  }
  return out;
}

// Eight codes of kBits bits, little end first, as a byte each.
template <int kBits>
std::uint64_t spread(std::uint64_t bits) {
  constexpr std::uint64_t kOne = (std::uint64_t{1} << kBits) - 1;
  constexpr std::uint64_t kTwo = (std::uint64_t{1} << 2 * kBits) - 1;
  constexpr std::uint64_t kFour = (std::uint64_t{1} << 4 * kBits) - 1;
  constexpr std::uint64_t kTwos = kTwo | kTwo << 32;
  constexpr std::uint64_t kOnes = kOne * 0x0001000100010001u;
  bits = (bits & kFour) | (bits >> 4 * kBits & kFour) << 32;
  bits = (bits & kTwos) | (bits >> 2 * kBits & kTwos) << 16;
  return (bits & kOnes) | (bits >> kBits & kOnes) << 8;
}

// 16 bytes of GGUF: low nibbles are columns 0 to 15, high ones 16 to 31.
void read_nibbles(const std::byte* from, RowCodes& codes) {
  for (std::size_t i = 0; i < 4; ++i) {
    const auto pairs = load<std::uint32_t>(from + 4 * i);
    codes[i] = pairs & kLowNibbles;
    codes[i + 4] = pairs >> 4 & kLowNibbles;
  }
}

// Bit k of 32 is the fifth bit of column k.
void add_fifth_bits(const std::byte* from, RowCodes& codes) {
  for (std::size_t i = 0; i < 4; ++i) {
    const std::uint64_t bits = spread<1>(static_cast<std::uint64_t>(from[i])) << 4;
    codes[2 * i] |= static_cast<std::uint32_t>(bits);
    codes[2 * i + 1] |= static_cast<std::uint32_t>(bits >> 32);
  }
}

// GGUF's blocks of 32; quantised_blocks.cpp describes their bytes.
struct Q4Scaled {
  static constexpr int kBits = 4;
  static constexpr std::size_t kBytes = 18;
  static constexpr bool kMinima = false;
  static void read(const std::byte* block, RowCodes& codes) { read_nibbles(block + 2, codes); }
};

struct Q4Shifted {
  static constexpr int kBits = 4;
  static constexpr std::size_t kBytes = 20;
  static constexpr bool kMinima = true;
  static void read(const std::byte* block, RowCodes& codes) { read_nibbles(block + 4, codes); }
};

struct Q5Scaled {
  static constexpr int kBits = 5;
  static constexpr std::size_t kBytes = 22;
  static constexpr bool kMinima = false;
  static void read(const std::byte* block, RowCodes& codes) {
    read_nibbles(block + 6, codes);
    add_fifth_bits(block + 2, codes);
  }
};

struct Q5Shifted {
  static constexpr int kBits = 5;
  static constexpr std::size_t kBytes = 24;
  static constexpr bool kMinima = true;
  static void read(const std::byte* block, RowCodes& codes) {
    read_nibbles(block + 8, codes);
    add_fifth_bits(block + 4, codes);
  }
};

struct Q8Scaled {
  static constexpr int kBits = 8;
  static constexpr std::size_t kBytes = 34;
  static constexpr bool kMinima = false;
  static void read(const std::byte* block, RowCodes& codes) {
    for (std::size_t i = 0; i < kBlockWords; ++i)
      codes[i] = load<std::uint32_t>(block + 2 + 4 * i) ^ 0x80808080u;  // + 128
  }
};

template <typename Block>
void pack_blocks(const PanelRows& rows, std::size_t blocks, std::byte* out) {
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::size_t at = block * Block::kBytes;
    out = write_column<std::uint16_t>(rows.tensor, at, out);
    if (Block::kMinima) out = write_column<std::uint16_t>(rows.tensor, at + 2, out);
    BlockCodes codes;
    for (std::size_t row = 0; row < kRows; ++row) Block::read(rows.tensor[row] + at, codes[row]);
    out = write_block<Block::kBits>(codes, out);
  }
}

// The 6-bit scale and minimum of a group of Q4_K and Q5_K, as quantised_blocks.cpp describes them.
void write_group_header(const std::byte* block, std::size_t group, std::byte* scale, std::byte* minimum) {
  const std::byte* const packed = block + 4;
  if (group < 4) {
    *scale = packed[group] & std::byte{63};
    *minimum = packed[group + 4] & std::byte{63};
    return;
  }
  *scale = (packed[group + 4] & std::byte{15}) | packed[group - 4] >> 6 << 4;
  *minimum = packed[group + 4] >> 4 | packed[group] >> 6 << 4;
}

// Q4_K and Q5_K.
template <int kBits>
void pack_k_blocks(const PanelRows& rows, std::size_t super_blocks, std::byte* out) {
  constexpr std::size_t kBytes = kBits == 4 ? 144 : 176;
  constexpr std::size_t kNibbles = kBits == 4 ? 16 : 48;
  for (std::size_t super = 0; super < super_blocks; ++super) {
    const std::size_t at = super * kBytes;
    out = write_column<std::uint16_t>(rows.tensor, at, out);
    out = write_column<std::uint16_t>(rows.tensor, at + 2, out);
    for (std::size_t group = 0; group < kSuperBlocks; ++group) {
      BlockCodes codes;
      for (std::size_t row = 0; row < kRows; ++row) {
        const std::byte* const block = rows.tensor[row] + at;
        write_group_header(block, group, out + row, out + kRows + row);
        for (std::size_t i = 0; i < kBlockWords; ++i) {
          codes[row][i] =
              load<std::uint32_t>(block + kNibbles + group / 2 * 32 + 4 * i) >> (group % 2 * 4) & kLowNibbles;
          if (kBits == 5) codes[row][i] |= (load<std::uint32_t>(block + 16 + 4 * i) >> group & 0x01010101u) << 4;
        }
      }
      out = write_block<kBits>(codes, out + 2 * kRows);
    }
  }
}

void pack_q6_k(const PanelRows& rows, std::size_t super_blocks, std::byte* out) {
  constexpr std::size_t kBytes = 210;
  for (std::size_t super = 0; super < super_blocks; ++super) {
    const std::size_t at = super * kBytes;
    out = write_column<std::uint16_t>(rows.tensor, at + 208, out);
    for (std::size_t run = 0; run < kSuperBlocks; ++run) {
      const std::size_t nibbles = run / 4 * 64 + run % 2 * 32;
      const std::size_t pairs = 128 + run / 4 * 32;
      BlockCodes codes;
      for (std::size_t row = 0; row < kRows; ++row) {
        const std::byte* const block = rows.tensor[row] + at;
        out[row] = block[192 + 2 * run];
        out[kRows + row] = block[192 + 2 * run + 1];
        for (std::size_t i = 0; i < kBlockWords; ++i) {
          const auto low = load<std::uint32_t>(block + nibbles + 4 * i) >> (run % 4 / 2 * 4) & kLowNibbles;
          const auto high = load<std::uint32_t>(block + pairs + 4 * i) >> (run % 4 * 2) & 0x03030303u;
          codes[row][i] = low | high << 4;
        }
      }
      out = write_block<6>(codes, out + 2 * kRows);
    }
  }
}

// Without a branch, so that a loop of it is a loop of vectors.
float widen_float16(std::uint16_t half) {
  const std::uint32_t rest = std::uint32_t{half & 0x7FFFu} << 13;
  const float subnormal = std::bit_cast<float>(rest + 0x38800000u) - 0x1p-14f;
  const std::uint32_t finite = rest < 0x00800000u ? std::bit_cast<std::uint32_t>(subnormal) : rest + 0x38000000u;
  const std::uint32_t magnitude = rest >= 0x0F800000u ? rest | 0x7F800000u : finite;
  return std::bit_cast<float>(magnitude | std::uint32_t{half & 0x8000u} << 16);
}

// Columns [first, first + count) of a row of floats.
void read_floats(DType dtype, const std::byte* row, std::size_t first, std::size_t count, float* out) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, row + 4 * first, count * sizeof(float));
      return;
    case DType::f16:
      for (std::size_t i = 0; i < count; ++i) out[i] = widen_float16(load<std::uint16_t>(row + 2 * (first + i)));
      return;
    default:
      for (std::size_t i = 0; i < count; ++i) out[i] = float_of_bfloat16(load<std::uint16_t>(row + 2 * (first + i)));
  }
}

// A group's scales or biases, in the type of the format.
std::byte* write_affine_column(const TensorView& tensor, ScaleKind kind,
                               const std::array<const std::byte*, kRows>& rows, std::size_t group, std::byte* out) {
  if (kind != ScaleKind::f32) return write_column<std::uint16_t>(rows, 2 * group, out);
  for (const std::byte* row : rows) {
    float value = 0.0f;
    read_floats(tensor.dtype, row, group, 1, &value);
    store(out, value);
    out += sizeof(value);
  }
  return out;
}

// kBits of the file; narrower ones than 4 are widened.
template <int kBits>
void pack_affine(const AffineGroups& affine, const PackedFormat& format, const PanelRows& rows, std::size_t blocks,
                 std::byte* out) {
  constexpr std::size_t kBytes = kBits;  // of eight codes
  const std::size_t group_blocks = static_cast<std::size_t>(format.group_columns) / kColumns;
  for (std::size_t block = 0; block < blocks; ++block) {
    if (block % group_blocks == 0) {
      out = write_affine_column(affine.scales, format.scales, rows.scales, block / group_blocks, out);
      out = write_affine_column(affine.biases, format.scales, rows.biases, block / group_blocks, out);
    }
    BlockCodes codes;
    for (std::size_t row = 0; row < kRows; ++row) {
      const std::byte* const from = rows.tensor[row] + 4 * kBytes * block;
      for (std::size_t i = 0; i < 4; ++i) {
        const std::uint64_t bits = spread<kBits>(load_bytes<kBits>(from + kBytes * i));
        codes[row][2 * i] = static_cast<std::uint32_t>(bits);
        codes[row][2 * i + 1] = static_cast<std::uint32_t>(bits >> 32);
      }
    }
    out = write_block<std::max(kBits, 4)>(codes, out);
  }
}

void pack_affine(const AffineGroups& affine, const PackedFormat& format, const PanelRows& rows, std::size_t blocks,
                 std::byte* out) {
  switch (affine.bits) {
    case 2:
      return pack_affine<2>(affine, format, rows, blocks, out);
    case 3:
      return pack_affine<3>(affine, format, rows, blocks, out);
    case 4:
      return pack_affine<4>(affine, format, rows, blocks, out);
    case 5:
      return pack_affine<5>(affine, format, rows, blocks, out);
    case 6:
      return pack_affine<6>(affine, format, rows, blocks, out);
    case 8:
      return pack_affine<8>(affine, format, rows, blocks, out);
    default:
      CORTEX_CHECK(false);
  }
}

// To nearest, ties to even; what is not a number stays so.
std::uint32_t bfloat16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? bits >> 16 | 0x40u : rounded;
}

// To nearest, ties to even; what is too large becomes the largest.
std::uint16_t float16_of(float value) {
  constexpr float kLargest = 65504.0f;
  const float magnitude = std::min(std::abs(value), kLargest);
  const std::uint32_t sign = std::bit_cast<std::uint32_t>(value) >> 16 & 0x8000u;
  if (magnitude < 0x1p-14f) {
    return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(std::lrint(magnitude * 0x1p24f)));
  }
  const auto bits = std::bit_cast<std::uint32_t>(magnitude);
  return static_cast<std::uint16_t>(sign | (bits - 0x38000000u + 0xFFFu + (bits >> 13 & 1)) >> 13);
}

// `value` to the nearest integer within [lowest, highest]; what is not a number becomes the lowest.
int nearest(float value, float lowest, float highest) {
  constexpr float kIntegersOnly = 0x1.8p23f;  // a float this large has no fraction
  const float limited = value > lowest ? (value < highest ? value : highest) : lowest;
  return static_cast<int>(limited + kIntegersOnly - kIntegersOnly);
}

using RowFloats = float[kColumns];

// The largest magnitude: as integers, whose order is the same and whose loop is one of vectors.
float largest_of(const RowFloats& values) {
  constexpr std::int32_t kInfinity = 0x7F800000;
  std::int32_t largest = 0;
  for (const float value : values) largest = std::max(largest, std::bit_cast<std::int32_t>(value) & 0x7FFFFFFF);
  return std::bit_cast<float>(std::min(largest, kInfinity));
}

// A row's share of a block of floats as codes around 128: the scale, float16.
std::uint16_t quantise_8(const RowFloats& values, std::uint8_t* codes) {
  const std::uint16_t scale = float16_of(largest_of(values) / 127.0f);
  const float inverse = (scale & 0x7FFFu) == 0 ? 0.0f : 1.0f / float_of_float16(scale);
  for (std::size_t i = 0; i < kColumns; ++i) {
    codes[i] = static_cast<std::uint8_t>(nearest(values[i] * inverse, -127.0f, 127.0f) + 128);
  }
  return scale;
}

struct ScaleAndMinimum {
  std::uint16_t scale, minimum;  // float16
};

// The same from the lowest of its first `count` values up, 4 bits each.
ScaleAndMinimum quantise_4(const RowFloats& values, std::size_t count, std::uint8_t* codes) {
  const auto [lowest, highest] = std::minmax_element(values, values + count);
  const std::uint16_t minimum = float16_of(*lowest);
  const float base = float_of_float16(minimum);
  const std::uint16_t scale = float16_of(std::max(0.0f, *highest - base) / 15.0f);
  const float inverse = scale == 0 ? 0.0f : 1.0f / float_of_float16(scale);
  for (std::size_t i = 0; i < kColumns; ++i) {
    codes[i] = static_cast<std::uint8_t>(nearest((values[i] - base) * inverse, 0.0f, 15.0f));
  }
  return {scale, minimum};
}

std::byte* write_quantised(const RowFloats (&values)[kRows], const PackedFormat& format, std::size_t count,
                           std::byte* out) {
  BlockCodes codes;
  for (std::size_t row = 0; row < kRows; ++row) {
    std::uint8_t row_codes[kColumns];
    if (format.bits == 8) {
      store(out + 2 * row, quantise_8(values[row], row_codes));
    } else {
      const auto [scale, minimum] = quantise_4(values[row], count, row_codes);
      store(out + 2 * row, scale);
      store(out + 2 * (kRows + row), minimum);
    }
    std::memcpy(codes[row], row_codes, sizeof(row_codes));
  }
  out += group_header_bytes(format);
  return format.bits == 8 ? write_block<8>(codes, out) : write_block<4>(codes, out);
}

// [16 rows][kWords] to [kWords][16 rows].
template <std::size_t kWords>
std::byte* write_transposed(const std::uint32_t (&rows)[kRows][kWords], std::byte* out) {
  std::uint32_t words[kWords][kRows];
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t i = 0; i < kWords; ++i) words[i][row] = rows[row][i];
  }
  std::memcpy(out, words, sizeof(words));
  return out + sizeof(words);
}

std::byte* write_floats(const RowFloats (&values)[kRows], std::byte* out) {
  std::uint32_t words[kRows][kColumns];
  std::memcpy(words, values, sizeof(words));
  return write_transposed(words, out);
}

std::byte* write_bfloat16(const RowFloats (&values)[kRows], std::byte* out) {
  std::uint32_t pairs[kRows][kColumns / 2];
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t i = 0; i < kColumns / 2; ++i) {
      pairs[row][i] = bfloat16_of(values[row][2 * i]) | bfloat16_of(values[row][2 * i + 1]) << 16;
    }
  }
  return write_transposed(pairs, out);
}

void pack_floats(const Weight& weight, const PackedFormat& format, const PanelRows& rows, std::byte* out) {
  const auto columns = static_cast<std::size_t>(weight.columns());
  for (std::size_t first = 0; first < columns; first += kColumns) {
    RowFloats values[kRows] = {};
    const std::size_t count = std::min(columns - first, kColumns);
    for (std::size_t row = 0; row < kRows; ++row) {
      read_floats(weight.tensor.dtype, rows.tensor[row], first, count, values[row]);
    }
    if (format.coded()) {
      out = write_quantised(values, format, count, out);
    } else {
      out = format.bits == 32 ? write_floats(values, out) : write_bfloat16(values, out);
    }
  }
}

}  // namespace

void pack_panel(const Weight& weight, const PackedFormat& format, const PanelRows& rows, std::byte* out) {
  const auto padded = static_cast<std::size_t>(padded_columns(format, static_cast<int>(weight.columns())));
  const std::size_t blocks = padded / kColumns;
  if (weight.groups) return pack_affine(*weight.groups, format, rows, blocks, out);
  switch (weight.tensor.dtype) {
    case DType::q4_0:
      return pack_blocks<Q4Scaled>(rows, blocks, out);
    case DType::q4_1:
      return pack_blocks<Q4Shifted>(rows, blocks, out);
    case DType::q5_0:
      return pack_blocks<Q5Scaled>(rows, blocks, out);
    case DType::q5_1:
      return pack_blocks<Q5Shifted>(rows, blocks, out);
    case DType::q8_0:
      return pack_blocks<Q8Scaled>(rows, blocks, out);
    case DType::q4_k:
      return pack_k_blocks<4>(rows, blocks / kSuperBlocks, out);
    case DType::q5_k:
      return pack_k_blocks<5>(rows, blocks / kSuperBlocks, out);
    case DType::q6_k:
      return pack_q6_k(rows, blocks / kSuperBlocks, out);
    default:
      return pack_floats(weight, format, rows, out);
  }
}

}  // namespace cortex
