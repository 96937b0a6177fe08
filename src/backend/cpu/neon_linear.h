// Rows times a packed matrix with NEON and its products of 8-bit integers (dotprod). Included by neon.cpp, nobody else.
// A panel's 16 rows are four registers, of which there are thirty-two: so up to four rows by one panel at a time.
#pragma once

#include <arm_neon.h>

#include "backend/cpu/linear_tiles.h"

namespace cortex {
namespace {

struct Neon {
  struct Floats {
    float32x4_t rows[4];  // 0-3, 4-7, 8-11, 12-15
  };
  struct Integers {
    int32x4_t rows[4];
  };
  static constexpr int kMostRows = 4;
  static constexpr bool kWide = false;

  // A vector whose four registers are of(0) to of(3).
  template <typename Of>
  static CORTEX_INLINE Floats floats_of(Of of) {
    return {{of(0), of(1), of(2), of(3)}};
  }
  template <typename Of>
  static CORTEX_INLINE Integers integers_of(Of of) {
    return {{of(0), of(1), of(2), of(3)}};
  }
  static CORTEX_INLINE uint8x16_t as_bytes(int32x4_t a) { return vreinterpretq_u8_s32(a); }

  static CORTEX_INLINE Floats zeros() { return broadcast(0.0f); }
  static CORTEX_INLINE Floats broadcast(float value) {
    return floats_of([=](int) CORTEX_INLINE_LAMBDA { return vdupq_n_f32(value); });
  }
  static CORTEX_INLINE Floats product(const Floats& a, const Floats& b) {
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA { return vmulq_f32(a.rows[i], b.rows[i]); });
  }
  static CORTEX_INLINE Floats sum(const Floats& a, const Floats& b) {
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA { return vaddq_f32(a.rows[i], b.rows[i]); });
  }
  static CORTEX_INLINE Floats difference(const Floats& a, const Floats& b) {
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA { return vsubq_f32(a.rows[i], b.rows[i]); });
  }
  static CORTEX_INLINE Floats negative(const Floats& a) {
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA { return vnegq_f32(a.rows[i]); });
  }
  static CORTEX_INLINE Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA { return vfmaq_f32(c.rows[i], a.rows[i], b.rows[i]); });
  }
  static CORTEX_INLINE Floats floats(const Integers& a) {
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA { return vcvtq_f32_s32(a.rows[i]); });
  }

  // Byte `byte` of every 32 bits, unsigned.
  static CORTEX_INLINE Floats byte_floats(const Integers& a, int byte) {
    const int32x4_t by = vdupq_n_s32(-8 * byte);
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA {
      const uint32x4_t shifted = vshlq_u32(vreinterpretq_u32_s32(a.rows[i]), by);
      return vcvtq_f32_u32(vandq_u32(shifted, vdupq_n_u32(255)));
    });
  }

  static CORTEX_INLINE float32x4_t four_scales(ScaleKind kind, const std::byte* from) {
    const uint16x4_t halves = vld1_u16(reinterpret_cast<const std::uint16_t*>(from));
    if (kind == ScaleKind::f16) return vcvt_f32_f16(vreinterpret_f16_u16(halves));
    return vreinterpretq_f32_u32(vshll_n_u16(halves, 16));
  }
  static CORTEX_INLINE Floats scales(ScaleKind kind, const std::byte* from) {
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA {
      return kind == ScaleKind::f32 ? vld1q_f32(reinterpret_cast<const float*>(from + 16 * i))
                                    : four_scales(kind, from + 8 * i);
    });
  }
  static CORTEX_INLINE Floats unsigned_bytes(const std::byte* from) {
    const uint8x16_t all = vld1q_u8(reinterpret_cast<const std::uint8_t*>(from));
    const uint16x8_t low = vmovl_u8(vget_low_u8(all));
    const uint16x8_t high = vmovl_u8(vget_high_u8(all));
    return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
             vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)))}};
  }
  static CORTEX_INLINE Floats signed_bytes(const std::byte* from) {
    const int8x16_t all = vld1q_s8(reinterpret_cast<const std::int8_t*>(from));
    const int16x8_t low = vmovl_s8(vget_low_s8(all));
    const int16x8_t high = vmovl_s8(vget_high_s8(all));
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
  }

  static CORTEX_INLINE Integers bytes(const std::byte* from) {
    return integers_of([&](int i) CORTEX_INLINE_LAMBDA {
      return vreinterpretq_s32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(from + 16 * i)));
    });
  }
  static CORTEX_INLINE Integers broadcast_bits(std::int32_t bits) {
    return integers_of([=](int) CORTEX_INLINE_LAMBDA { return vdupq_n_s32(bits); });
  }
  static CORTEX_INLINE Floats first_of_pairs(const Integers& a) {
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA { return vreinterpretq_f32_s32(vshlq_n_s32(a.rows[i], 16)); });
  }
  static CORTEX_INLINE Floats second_of_pairs(const Integers& a) {
    const int32x4_t mask = vdupq_n_s32(static_cast<std::int32_t>(0xffff0000u));
    return floats_of([&](int i) CORTEX_INLINE_LAMBDA { return vreinterpretq_f32_s32(vandq_s32(a.rows[i], mask)); });
  }
  static CORTEX_INLINE Integers shifted_left(const Integers& a, int by) {
    const int8x16_t count = vdupq_n_s8(static_cast<std::int8_t>(by));
    return integers_of([&](int i)
                           CORTEX_INLINE_LAMBDA { return vreinterpretq_s32_u8(vshlq_u8(as_bytes(a.rows[i]), count)); });
  }
  static CORTEX_INLINE Integers shifted_right(const Integers& a, int by) { return shifted_left(a, -by); }
  static CORTEX_INLINE Integers masked(const Integers& a, int byte) {
    const uint8x16_t mask = vdupq_n_u8(static_cast<std::uint8_t>(byte));
    return integers_of([&](int i)
                           CORTEX_INLINE_LAMBDA { return vreinterpretq_s32_u8(vandq_u8(as_bytes(a.rows[i]), mask)); });
  }
  static CORTEX_INLINE Integers joined(const Integers& a, const Integers& b) {
    return integers_of([&](int i) CORTEX_INLINE_LAMBDA { return vorrq_s32(a.rows[i], b.rows[i]); });
  }

  // The instruction takes signed bytes. Codes of up to 6 bits are such; from those of 8 bits 128 is taken, which is put
  // back here: (128 - zero_point) * the sum of a group of activations, of both halves or of one.
  template <int kBits>
  static CORTEX_INLINE Integers start(const std::int32_t* halves, int part, int zero_shift) {
    const std::int32_t sum = part >= 0 ? halves[part] : halves[0] + halves[1];
    const std::int32_t zero = zero_shift > 0 ? 1 << zero_shift : 0;
    return broadcast_bits(sum * (zero - (kBits == 8 ? 128 : 0)));
  }

  template <int kBits, int kFirst, int kLast, int kRows, int kPanels>
  static CORTEX_INLINE void add_quads(const std::byte* const (&codes)[kPanels], const std::int8_t* const (&in)[kRows],
                                      Integers (&sums)[kRows][kPanels]) {
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 8
      for (int quad = kFirst; quad < kLast; ++quad) {
        const Integers weights = code_quad<Neon, kBits>(codes[p], quad);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          std::int32_t four;
          std::memcpy(&four, in[r] + 4 * quad, sizeof four);
          const int8x16_t values = vreinterpretq_s8_s32(vdupq_n_s32(four));
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            int8x16_t few = vreinterpretq_s8_s32(weights.rows[i]);
            if constexpr (kBits == 8) few = veorq_s8(few, vdupq_n_s8(-128));
            sums[r][p].rows[i] = vdotq_s32(sums[r][p].rows[i], few, values);
          }
        }
      }
    }
  }
};

}  // namespace
}  // namespace cortex
