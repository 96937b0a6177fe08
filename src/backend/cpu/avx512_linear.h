// Rows times a packed matrix with AVX-512, VNNI and BF16. Included by avx512.cpp, and by amx_int8_linear.h
// for what AMX leaves to it; nobody else.
// Four to six rows by two panels keep the multipliers busy; one row by four panels keeps enough memory in flight.
#pragma once

#include <immintrin.h>

#include "backend/cpu/linear_tiles.h"

namespace cortex {
namespace {

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): offsets inside a panel or a row are small.

struct Avx512 {
  using Floats = __m512;
  using Integers = __m512i;
  static constexpr int kMostRows = 6;
  static constexpr bool kWide = true;

  static CORTEX_INLINE Floats zeros() { return _mm512_setzero_ps(); }
  static CORTEX_INLINE Floats broadcast(float value) { return _mm512_set1_ps(value); }
  static CORTEX_INLINE Floats product(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static CORTEX_INLINE Floats sum(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static CORTEX_INLINE Floats difference(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static CORTEX_INLINE Floats negative(Floats a) { return -a; }
  static CORTEX_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static CORTEX_INLINE Floats floats(Integers a) { return _mm512_cvtepi32_ps(a); }

  // Byte i of every 32 bits, unsigned.
  static CORTEX_INLINE Floats byte_floats(Integers a, int i) {
    return floats(_mm512_and_si512(_mm512_srli_epi32(a, static_cast<unsigned>(8 * i)), _mm512_set1_epi32(255)));
  }

  static CORTEX_INLINE Floats first_of_pairs(Integers a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
  static CORTEX_INLINE Floats second_of_pairs(Integers a) {
    return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32(static_cast<std::int32_t>(0xffff0000u))));
  }

  static CORTEX_INLINE Floats scales(ScaleKind kind, const std::byte* from) {
    if (kind == ScaleKind::f32) return _mm512_loadu_ps(from);
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if (kind == ScaleKind::f16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static CORTEX_INLINE Floats unsigned_bytes(const std::byte* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static CORTEX_INLINE Floats signed_bytes(const std::byte* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }

  static CORTEX_INLINE Integers bytes(const std::byte* from) { return _mm512_loadu_si512(from); }
  static CORTEX_INLINE Integers shifted_left(Integers a, int by) {
    return _mm512_slli_epi16(a, static_cast<unsigned>(by));
  }
  static CORTEX_INLINE Integers shifted_right(Integers a, int by) {
    return _mm512_srli_epi16(a, static_cast<unsigned>(by));
  }
  static CORTEX_INLINE Integers masked(Integers a, int byte) {
    return _mm512_and_si512(a, _mm512_set1_epi8(static_cast<char>(byte)));
  }
  static CORTEX_INLINE Integers joined(Integers a, Integers b) { return _mm512_or_si512(a, b); }

  // -zero_point * the sum of a group of activations: of both halves, or of one.
  template <int kBits>
  static CORTEX_INLINE Integers start(const std::int32_t* halves, int part, int zero_shift) {
    if (zero_shift == 0) return _mm512_setzero_si512();
    const std::int32_t sum = part >= 0 ? halves[part] : halves[0] + halves[1];
    return _mm512_sll_epi32(_mm512_set1_epi32(sum), _mm_cvtsi32_si128(zero_shift));
  }

  template <int kBits, int kFirst, int kLast, int kRows, int kPanels>
  static CORTEX_INLINE void add_quads(const std::byte* const (&codes)[kPanels], const std::int8_t* const (&in)[kRows],
                                      Integers (&sums)[kRows][kPanels]) {
#pragma GCC unroll 8
    for (int quad = kFirst; quad < kLast; ++quad) {
      // Low and high nibbles of one load follow one another.
      const int index = kBits == 8 || kLast - kFirst < 8 ? quad : quad / 2 + quad % 2 * 4;
      Integers weights[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) weights[p] = code_quad<Avx512, kBits>(codes[p], index);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        std::int32_t four;
        std::memcpy(&four, in[r] + 4 * index, sizeof four);
        const Integers values = _mm512_set1_epi32(four);
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], weights[p], values);
      }
    }
  }
};

struct Avx512Bf16Tile {
  using Tiles = Avx512;

  template <int kRows, int kPanels>
  static CORTEX_INLINE void run(const LinearTask& task, int row, int panel) {
    const PackedMatrix& matrix = *task.matrix;
    const int pairs = matrix.blocks() * kBlockColumns / 2;
    const std::byte* weights[kPanels];
    for (int p = 0; p < kPanels; ++p) weights[p] = matrix.panel(panel + p);
    const std::uint16_t* in[kRows];
    __m512 out[kRows][kPanels];
    for (int r = 0; r < kRows; ++r) {
      in[r] = task.in.halves + static_cast<std::size_t>(row + r) * static_cast<std::size_t>(task.in.columns);
      for (int p = 0; p < kPanels; ++p) out[r][p] = _mm512_setzero_ps();
    }
    for (int pair = 0; pair < pairs; ++pair) {
      __m512bh columns[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        columns[p] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(weights[p] + 64 * pair));
      }
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        std::int32_t two;
        std::memcpy(&two, in[r] + 2 * pair, sizeof two);
        const auto values = reinterpret_cast<__m512bh>(_mm512_set1_epi32(two));
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) out[r][p] = _mm512_dpbf16_ps(out[r][p], columns[p], values);
      }
    }
    end_tile(task, row, panel, out);
  }
};

// The largest of each of four vectors, [4] in every 128 bits.
CORTEX_INLINE __m512i largest_of_four(const __m512i (&of)[4]) {
  const __m512i first = _mm512_max_epi32(_mm512_unpacklo_epi32(of[0], of[1]), _mm512_unpackhi_epi32(of[0], of[1]));
  const __m512i second = _mm512_max_epi32(_mm512_unpacklo_epi32(of[2], of[3]), _mm512_unpackhi_epi32(of[2], of[3]));
  __m512i all = _mm512_max_epi32(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
  all = _mm512_max_epi32(all, _mm512_shuffle_i32x4(all, all, _MM_SHUFFLE(1, 0, 3, 2)));
  return _mm512_max_epi32(all, _mm512_shuffle_i32x4(all, all, _MM_SHUFFLE(2, 3, 0, 1)));
}

// The sums of each 16 of 64 bytes, in all four places of their 128 bits.
CORTEX_INLINE __m512i sums_of_sixteen(__m512i bytes) {
  __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), bytes);
  sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
  return _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_BADC));
}

// Four groups at a time: what quantise() of loops.h does, step by step.
void quantise_avx512(const float* x, int columns, std::int8_t* codes, float* scales, float* scaled_sums,
                     std::int32_t* negative_sums) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  int column = 0;
  for (; column + 128 <= columns; column += 128) {
    const float* const values = x + column;
    __m512i largest[4];
#pragma GCC unroll 4
    for (int group = 0; group < 4; ++group) {
      largest[group] = _mm512_max_epi32(_mm512_and_si512(_mm512_loadu_si512(values + 32 * group), magnitude),
                                        _mm512_and_si512(_mm512_loadu_si512(values + 32 * group + 16), magnitude));
    }
    const __m128 size = _mm_castsi128_ps(_mm512_castsi512_si128(largest_of_four(largest)));
    const __m128 scale = _mm_div_ps(size, _mm_set1_ps(127.0f));
    const __mmask8 some = _mm_cmp_ps_mask(size, _mm_set1_ps(1e-30f), _CMP_GT_OQ);
    alignas(16) float inverses[4];
    _mm_store_ps(inverses, _mm_maskz_div_ps(some, _mm_set1_ps(127.0f), size));

    alignas(64) __m128i bytes[8];
#pragma GCC unroll 8
    for (int half = 0; half < 8; ++half) {
      const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(values + 16 * half), _mm512_set1_ps(inverses[half / 2]));
      const __m512 shifted = _mm512_add_ps(scaled, _mm512_set1_ps(12582912.0f));  // its low bits are the integer's
      bytes[half] = _mm512_cvtepi32_epi8(_mm512_castps_si512(shifted));
    }
    __m512i all[2];
    std::memcpy(all, bytes, sizeof all);
    _mm512_storeu_si512(codes + column, all[0]);
    _mm512_storeu_si512(codes + column + 64, all[1]);
    const __m512i places = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 28, 24, 20, 16, 12, 8, 4, 0);
    const __m256i sums =
        _mm512_castsi512_si256(_mm512_permutex2var_epi32(sums_of_sixteen(all[0]), places, sums_of_sixteen(all[1])));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(negative_sums + column / 16),
                        _mm256_sub_epi32(_mm256_setzero_si256(), sums));
    const __m128i pairs = _mm_hadd_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    _mm_storeu_ps(scales + column / 32, scale);
    _mm_storeu_ps(scaled_sums + column / 32, _mm_mul_ps(scale, _mm_cvtepi32_ps(pairs)));
  }
  quantise(x + column, columns - column, codes + column, scales + column / 32, scaled_sums + column / 32,
           negative_sums + column / 16);
}

void round_to_bf16_avx512(const float* x, std::size_t count, std::uint16_t* out) {
  const auto rounded = [](__m512i bits) CORTEX_INLINE_LAMBDA {
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
    const __mmask16 is_nan = _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(0x7f800000));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, nearest, quiet), 16));
  };
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), rounded(_mm512_loadu_si512(x + i)));
  }
  const auto some = static_cast<__mmask16>((1u << (count - i)) - 1);
  _mm256_mask_storeu_epi16(out + i, some, rounded(_mm512_maskz_loadu_epi32(some, x + i)));
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace
}  // namespace cortex
