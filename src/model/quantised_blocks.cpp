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

// 16 bytes hold 32 quants: the low nibbles are 0 to 15, the high ones 16 to 31. The fifth bits of the 32, if there are
// any, are the bits of one word. `value` makes a float of a quant.
template <typename Value>
void widen_nibbles(const std::byte* quants, std::uint32_t fifth_bits, float* out, Value value) {
  for (int i = 0; i < 16; ++i) {
    const int pair = byte_at(quants, i);
    out[i] = value((pair & 15) | static_cast<int>(fifth_bits >> i & 1) << 4);
    out[i + 16] = value(pair >> 4 | static_cast<int>(fifth_bits >> (i + 16) & 1) << 4);
  }
}

// f16 scale, 16 bytes of nibbles less 8.
void dequantise_q4_0(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  widen_nibbles(block + 2, 0, out, [&](int quant) { return static_cast<float>(quant - 8) * scale; });
}

// f16 scale, f16 minimum, 16 bytes of nibbles.
void dequantise_q4_1(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  const float minimum = load_float16(block + 2);
  widen_nibbles(block + 4, 0, out, [&](int quant) { return static_cast<float>(quant) * scale + minimum; });
}

// f16 scale, 32 fifth bits, 16 bytes of nibbles; quants less 16.
void dequantise_q5_0(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  widen_nibbles(block + 6, load32(block + 2), out, [&](int quant) { return static_cast<float>(quant - 16) * scale; });
}

// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of nibbles.
void dequantise_q5_1(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  const float minimum = load_float16(block + 2);
  widen_nibbles(block + 8, load32(block + 4), out,
                [&](int quant) { return static_cast<float>(quant) * scale + minimum; });
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

// 16 bytes of scales, 128 bytes of nibbles: each 32 of them hold two groups, one low, the next high.
void dequantise_q4_k(const std::byte* block, float* out) {
  for (int group = 0; group < kSuperBlock / 32; ++group) {
    const auto [scale, minimum] = group_scale(block, group);
    const int quants = 16 + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      *out++ = scale * static_cast<float>(byte_at(block, quants + i) >> shift & 15) - minimum;
    }
  }
}

// 16 bytes of scales, 32 bytes whose bit g is the fifth bit of group g, 128 bytes of nibbles as in Q4_K.
void dequantise_q5_k(const std::byte* block, float* out) {
  for (int group = 0; group < kSuperBlock / 32; ++group) {
    const auto [scale, minimum] = group_scale(block, group);
    const int quants = 48 + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int high = (byte_at(block + 16, i) >> group & 1) << 4;
      *out++ = scale * static_cast<float>((byte_at(block, quants + i) >> shift & 15) | high) - minimum;
    }
  }
}

// 128 bytes of nibbles, 64 bytes of upper pairs of bits, 16 signed scales of 16 quants each, f16 scale of the scales;
// quants less 32. Each half of 128 quants has 64 bytes of nibbles, whose low ones are its first two runs of 32, and 32
// bytes of pairs, whose lowest are its first run.
void dequantise_q6_k(const std::byte* block, float* out) {
  const float scale = load_float16(block + 208);
  for (int run = 0; run < kSuperBlock / 32; ++run) {
    const int half = run / 4;
    const int nibbles = half * 64 + run % 2 * 32;
    const int pairs = 128 + half * 32;
    const int nibble_shift = run % 4 / 2 * 4;
    const int pair_shift = run % 4 * 2;
    for (int i = 0; i < 32; ++i) {
      const int low = byte_at(block, nibbles + i) >> nibble_shift & 15;
      const int high = (byte_at(block, pairs + i) >> pair_shift & 3) << 4;
      const float group = scale * static_cast<float>(signed_byte_at(block + 192, 2 * run + i / 16));
      *out++ = group * static_cast<float>((low | high) - 32);
    }
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
