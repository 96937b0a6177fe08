// Rows times a packed matrix with AVX2, FMA and F16C. Included by avx2.cpp, nobody else. A panel's 16 rows are two
// registers, of which there are sixteen: so up to four rows by one panel at a time.
#pragma once

#include <immintrin.h>

#include "backend/cpu/linear_tiles.h"

namespace cortex {
namespace {

struct Avx2 {
  struct Floats {
    __m256 low, high;  // rows 0-7, 8-15
  };
  struct Integers {
    __m256i low, high;
  };
  static constexpr int kMostRows = 4;
  static constexpr bool kWide = false;

  static CORTEX_INLINE Floats zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static CORTEX_INLINE Floats broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static CORTEX_INLINE Floats product(Floats a, Floats b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static CORTEX_INLINE Floats sum(Floats a, Floats b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static CORTEX_INLINE Floats difference(Floats a, Floats b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  static CORTEX_INLINE Floats negative(Floats a) { return {-a.low, -a.high}; }
  static CORTEX_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static CORTEX_INLINE Floats floats(Integers a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }

  // Byte i of every 32 bits, unsigned.
  static CORTEX_INLINE Floats byte_floats(Integers a, int i) {
    const __m256i mask = _mm256_set1_epi32(255);
    return floats({_mm256_and_si256(_mm256_srli_epi32(a.low, 8 * i), mask),
                   _mm256_and_si256(_mm256_srli_epi32(a.high, 8 * i), mask)});
  }

  static CORTEX_INLINE __m256 eight_scales(ScaleKind kind, const std::byte* from, int first) {
    if (kind == ScaleKind::f32) return _mm256_loadu_ps(reinterpret_cast<const float*>(from) + first);
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * first));
    if (kind == ScaleKind::f16) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static CORTEX_INLINE Floats scales(ScaleKind kind, const std::byte* from) {
    return {eight_scales(kind, from, 0), eight_scales(kind, from, 8)};
  }
  static CORTEX_INLINE Floats unsigned_bytes(const std::byte* from) {
    return floats({_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))),
                   _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8)))});
  }
  static CORTEX_INLINE Floats signed_bytes(const std::byte* from) {
    return floats({_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))),
                   _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8)))});
  }

  static CORTEX_INLINE __m256i load32(const std::byte* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static CORTEX_INLINE Integers bytes(const std::byte* from) { return {load32(from), load32(from + 32)}; }
  static CORTEX_INLINE Integers broadcast_bits(std::int32_t bits) {
    return {_mm256_set1_epi32(bits), _mm256_set1_epi32(bits)};
  }
  static CORTEX_INLINE Floats first_of_pairs(Integers a) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(a.low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(a.high, 16))};
  }
  static CORTEX_INLINE Floats second_of_pairs(Integers a) {
    const __m256i mask = _mm256_set1_epi32(static_cast<std::int32_t>(0xffff0000u));
    return {_mm256_castsi256_ps(_mm256_and_si256(a.low, mask)), _mm256_castsi256_ps(_mm256_and_si256(a.high, mask))};
  }
  static CORTEX_INLINE Integers shifted_left(Integers a, int by) {
    return {_mm256_slli_epi16(a.low, by), _mm256_slli_epi16(a.high, by)};
  }
  static CORTEX_INLINE Integers shifted_right(Integers a, int by) {
    return {_mm256_srli_epi16(a.low, by), _mm256_srli_epi16(a.high, by)};
  }
  static CORTEX_INLINE Integers masked(Integers a, int byte) {
    const __m256i mask = _mm256_set1_epi8(static_cast<char>(byte));
    return {_mm256_and_si256(a.low, mask), _mm256_and_si256(a.high, mask)};
  }
  static CORTEX_INLINE Integers joined(Integers a, Integers b) {
    return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
  }

  // -zero_point * the sum of a group of activations: of both halves, or of one.
  template <int kBits>
  static CORTEX_INLINE Integers start(const std::int32_t* halves, int part, int zero_shift) {
    if (zero_shift == 0) return broadcast_bits(0);
    const std::int32_t sum = part >= 0 ? halves[part] : halves[0] + halves[1];
    return broadcast_bits(sum * (1 << zero_shift));
  }

  // vpmaddubsw saturates at 16 bits. Of codes of 4, 5 and 6 bits the sums of 8, 4 and 2 quads cannot come there:
  // 2 * 15 * 127 * 8 = 30480, 2 * 31 * 127 * 4 = 31496, 2 * 63 * 127 * 2 = 32004.
  template <int kBits>
  static constexpr int kSafeQuads = kBits == 4   ? 8
                                    : kBits == 5 ? 4
                                                 : 2;

  template <int kBits, int kFirst, int kRows>
  static CORTEX_INLINE void add_safe_quads(const std::byte* codes, const std::int8_t* const (&in)[kRows], int count,
                                           Integers (&sums)[kRows]) {
    Integers shorts[kRows];
#pragma GCC unroll 8
    for (int quad = 0; quad < count; ++quad) {
      const Integers weights = code_quad<Avx2, kBits>(codes, kFirst + quad);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        std::int32_t four;
        std::memcpy(&four, in[r] + 4 * (kFirst + quad), sizeof four);
        const __m256i values = _mm256_set1_epi32(four);
        const __m256i low = _mm256_maddubs_epi16(weights.low, values);
        const __m256i high = _mm256_maddubs_epi16(weights.high, values);
        shorts[r].low = quad == 0 ? low : _mm256_add_epi16(shorts[r].low, low);
        shorts[r].high = quad == 0 ? high : _mm256_add_epi16(shorts[r].high, high);
      }
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sums[r].low = _mm256_add_epi32(sums[r].low, _mm256_madd_epi16(shorts[r].low, ones));
      sums[r].high = _mm256_add_epi32(sums[r].high, _mm256_madd_epi16(shorts[r].high, ones));
    }
  }

  template <int kBits, int kFirst, int kLast, int kRows>
  static CORTEX_INLINE void add_small_codes(const std::byte* codes, const std::int8_t* const (&in)[kRows],
                                            Integers (&sums)[kRows]) {
    constexpr int kCount = kSafeQuads<kBits> < kLast - kFirst ? kSafeQuads<kBits> : kLast - kFirst;
    add_safe_quads<kBits, kFirst>(codes, in, kCount, sums);
    if constexpr (kFirst + kCount < kLast) add_small_codes<kBits, kFirst + kCount, kLast>(codes, in, sums);
  }

  // 8 bits do not fit: the even and the odd columns of a block, and of the activations, are widened to 16.
  template <int kRows>
  static CORTEX_INLINE void add_large_codes(const std::byte* codes, const std::int8_t* const (&in)[kRows],
                                            Integers (&sums)[kRows]) {
    alignas(32) std::int32_t even[kRows][8];  // [rows][quads]: columns 0 and 2 of a quad
    alignas(32) std::int32_t odd[kRows][8];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i values = load32(reinterpret_cast<const std::byte*>(in[r]));
      _mm256_store_si256(reinterpret_cast<__m256i*>(even[r]), _mm256_srai_epi16(_mm256_slli_epi16(values, 8), 8));
      _mm256_store_si256(reinterpret_cast<__m256i*>(odd[r]), _mm256_srai_epi16(values, 8));
    }
    const __m256i mask = _mm256_set1_epi16(255);
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; ++quad) {
      const Integers weights = bytes(codes + 64 * quad);
      const Integers even_weights = {_mm256_and_si256(weights.low, mask), _mm256_and_si256(weights.high, mask)};
      const Integers odd_weights = shifted_right(weights, 8);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i even_values = _mm256_set1_epi32(even[r][quad]);
        const __m256i odd_values = _mm256_set1_epi32(odd[r][quad]);
        sums[r].low = _mm256_add_epi32(sums[r].low, _mm256_madd_epi16(even_weights.low, even_values));
        sums[r].high = _mm256_add_epi32(sums[r].high, _mm256_madd_epi16(even_weights.high, even_values));
        sums[r].low = _mm256_add_epi32(sums[r].low, _mm256_madd_epi16(odd_weights.low, odd_values));
        sums[r].high = _mm256_add_epi32(sums[r].high, _mm256_madd_epi16(odd_weights.high, odd_values));
      }
    }
  }

  template <int kBits, int kFirst, int kLast, int kRows, int kPanels>
  static CORTEX_INLINE void add_quads(const std::byte* const (&codes)[kPanels], const std::int8_t* const (&in)[kRows],
                                      Integers (&sums)[kRows][kPanels]) {
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) {
      Integers panel_sums[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) panel_sums[r] = sums[r][p];
      if constexpr (kBits == 8) {
        add_large_codes(codes[p], in, panel_sums);
      } else {
        add_small_codes<kBits, kFirst, kLast>(codes[p], in, panel_sums);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sums[r][p] = panel_sums[r];
    }
  }
};

}  // namespace
}  // namespace cortex
