#include "model/quantised_blocks.h"

#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "model/float16.h"

namespace cortex {
namespace {

constexpr int kSuperBlock = 256;

float load_float16(const std::byte* from) {
  std::uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return float_of_float16(bits);
}

std::uint32_t load32(const std::byte* from) {
  std::uint32_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return bits;
}

int byte_at(const std::byte* from, int index) { return static_cast<int>(from[index]); }
int signed_byte_at(const std::byte* from, int index) { return static_cast<std::int8_t>(from[index]); }

// 16 bytes hold 32 quants: the low nibbles are 0 to 15, the high ones 16 to 31.
int nibble(const std::byte* quants, int index) {
  const int pair = byte_at(quants, index % 16);
  return index < 16 ? pair & 15 : pair >> 4;
}

// The fifth bits of 32 quants are the bits of one word.
int fifth_bit(std::uint32_t bits, int index) { return static_cast<int>(bits >> index & 1) << 4; }

// f16 scale, 16 bytes of nibbles less 8.
void dequantise_q4_0(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(nibble(block + 2, i) - 8) * scale;
}

// f16 scale, f16 minimum, 16 bytes of nibbles.
void dequantise_q4_1(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  const float minimum = load_float16(block + 2);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(nibble(block + 4, i)) * scale + minimum;
}

// f16 scale, 32 fifth bits, 16 bytes of nibbles; quants less 16.
void dequantise_q5_0(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  const std::uint32_t bits = load32(block + 2);
  for (int i = 0; i < 32; ++i) {
    out[i] = static_cast<float>((nibble(block + 6, i) | fifth_bit(bits, i)) - 16) * scale;
  }
}

// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of nibbles.
void dequantise_q5_1(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  const float minimum = load_float16(block + 2);
  const std::uint32_t bits = load32(block + 4);
  for (int i = 0; i < 32; ++i) {
    out[i] = static_cast<float>(nibble(block + 8, i) | fifth_bit(bits, i)) * scale + minimum;
  }
}

// f16 scale, 32 signed bytes.
void dequantise_q8_0(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(signed_byte_at(block, 2 + i)) * scale;
}

// What a group of 32 in a block of Q4_K or Q5_K is scaled by and what is taken off.
struct GroupScale {
  float scale, minimum;
};

// f16 scale of the scales, f16 scale of the minima, 12 bytes with 8 scales and 8 minima of 6 bits: those of groups 0 to
// 3 are the low bits of bytes 0 to 7; those of 4 to 7 are the nibbles of bytes 8 to 11 below the top bits of 0 to 7.
GroupScale group_scale(const std::byte* block, int group) {
  const std::byte* packed = block + 4;
  int scale = 0;
  int minimum = 0;
  if (group < 4) {
    scale = byte_at(packed, group) & 63;
    minimum = byte_at(packed, group + 4) & 63;
  } else {
    scale = (byte_at(packed, group + 4) & 15) | byte_at(packed, group - 4) >> 6 << 4;
    minimum = byte_at(packed, group + 4) >> 4 | byte_at(packed, group) >> 6 << 4;
  }
  return {load_float16(block) * static_cast<float>(scale), load_float16(block + 2) * static_cast<float>(minimum)};
}

// Each run of 32 bytes holds two groups: one in the low nibbles, the next in the high ones.
int group_nibble(const std::byte* quants, int group, int index) {
  const int pair = byte_at(quants, group / 2 * 32 + index);
  return group % 2 == 0 ? pair & 15 : pair >> 4;
}

// 16 bytes of scales, 128 bytes of nibbles.
void dequantise_q4_k(const std::byte* block, float* out) {
  for (int group = 0; group < kSuperBlock / 32; ++group) {
    const auto [scale, minimum] = group_scale(block, group);
    for (int i = 0; i < 32; ++i) {
      *out++ = scale * static_cast<float>(group_nibble(block + 16, group, i)) - minimum;
    }
  }
}

// 16 bytes of scales, 32 bytes whose bit g is the fifth bit of group g, 128 bytes of nibbles.
void dequantise_q5_k(const std::byte* block, float* out) {
  for (int group = 0; group < kSuperBlock / 32; ++group) {
    const auto [scale, minimum] = group_scale(block, group);
    for (int i = 0; i < 32; ++i) {
      const int high = (byte_at(block + 16, i) >> group & 1) << 4;
      *out++ = scale * static_cast<float>(group_nibble(block + 48, group, i) | high) - minimum;
    }
  }
}

// 128 bytes of nibbles, 64 bytes of upper pairs of bits, 16 signed scales, f16 scale of the scales; quants less 32.
// Each half of 128 has 64 bytes of nibbles, the low ones first, and 32 bytes of pairs, the lowest first.
void dequantise_q6_k(const std::byte* block, float* out) {
  const float scale = load_float16(block + 208);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int half = i / 128;
    const int within = i % 128;
    const int pair = byte_at(block, half * 64 + within % 64);
    const int low = within < 64 ? pair & 15 : pair >> 4;
    const int high = byte_at(block + 128, half * 32 + within % 32) >> (within / 32 * 2) & 3;
    const float group = scale * static_cast<float>(signed_byte_at(block + 192, i / 16));
    out[i] = group * static_cast<float>((low | high << 4) - 32);
  }
}

using Dequantise = void (*)(const std::byte* block, float* out);

Dequantise dequantise_of(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
      return dequantise_q4_0;
    case DType::q4_1:
      return dequantise_q4_1;
    case DType::q5_0:
      return dequantise_q5_0;
    case DType::q5_1:
      return dequantise_q5_1;
    case DType::q8_0:
      return dequantise_q8_0;
    case DType::q4_k:
      return dequantise_q4_k;
    case DType::q5_k:
      return dequantise_q5_k;
    case DType::q6_k:
      return dequantise_q6_k;
    default:
      return nullptr;
  }
}

}  // namespace

void dequantise(DType dtype, const std::byte* from, std::size_t blocks, float* out) {
  const Dequantise widen = dequantise_of(dtype);
  CORTEX_CHECK(widen != nullptr);
  const DTypeLayout& layout = layout_of(dtype);
  for (std::size_t i = 0; i < blocks; ++i) {
    widen(from, out);
    from += layout.block_bytes;
    out += layout.block_elements;
  }
}

}  // namespace cortex
