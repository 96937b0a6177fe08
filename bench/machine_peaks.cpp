#include "machine_peaks.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace cortex {
namespace {

constexpr int kChains = 12;  // more than an instruction takes cycles, times how many begin in one

// What a loop has made must be used, or there is no loop.
template <typename T>
void use(const T& value) {
  asm volatile("" : : "m"(value) : "memory");
}

// float32 in whatever vectors the compiler's own target has.
using Four = float __attribute__((vector_size(16)));

double plain(std::size_t turns) {
  Four sums[kChains] = {};
  const Four a = Four{} + 0.5f;
  for (std::size_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      sums[i] += a * sums[i];
    }
  }
  use(sums);
  return static_cast<double>(turns) * kChains * 4 * 2;
}

#if defined(__x86_64__)

[[gnu::target("avx2,fma")]] double avx2_f32(std::size_t turns) {
  __m256 sums[kChains];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  __m256 a = _mm256_set1_ps(0.5f);
  for (std::size_t turn = 0; turn < turns; ++turn) {
    asm volatile("" : "+x"(a));
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm256_fmadd_ps(a, a, sums[i]);
  }
  use(sums);
  return static_cast<double>(turns) * kChains * 8 * 2;
}

// A multiplication of bytes and one addition of what comes of it.
[[gnu::target("avx2")]] double avx2_int8(std::size_t turns) {
  __m256i sums[kChains];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(1);
  for (std::size_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      asm volatile("" : "+x"(a));
      sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(a, a));
    }
  }
  use(sums);
  return static_cast<double>(turns) * kChains * 32 * 2;
}

[[gnu::target("avx512f")]] double avx512_f32(std::size_t turns) {
  __m512 sums[kChains];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  __m512 a = _mm512_set1_ps(0.5f);
  for (std::size_t turn = 0; turn < turns; ++turn) {
    asm volatile("" : "+v"(a));
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_fmadd_ps(a, a, sums[i]);
  }
  use(sums);
  return static_cast<double>(turns) * kChains * 16 * 2;
}

[[gnu::target("avx512f,avx512vnni")]] double avx512_int8(std::size_t turns) {
  __m512i sums[kChains];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi32(0x01010101);
  for (std::size_t turn = 0; turn < turns; ++turn) {
    asm volatile("" : "+v"(a));
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], a, a);
  }
  use(sums);
  return static_cast<double>(turns) * kChains * 64 * 2;
}

[[gnu::target("avx512f,avx512bf16")]] double avx512_bf16(std::size_t turns) {
  __m512 sums[kChains];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  __m512i a = _mm512_set1_epi32(0x3f803f80);
  for (std::size_t turn = 0; turn < turns; ++turn) {
    asm volatile("" : "+v"(a));
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      sums[i] = _mm512_dpbf16_ps(sums[i], reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(a));
    }
  }
  use(sums);
  return static_cast<double>(turns) * kChains * 32 * 2;
}

// Eight tiles of 16 rows of 64 bytes; four of them are sums.
[[gnu::target("amx-tile")]] void begin_tiles() {
  alignas(64) std::uint8_t configuration[64] = {1};
  for (int tile = 0; tile < 8; ++tile) {
    configuration[16 + 2 * tile] = 64;
    configuration[48 + tile] = 16;
  }
  use(configuration);
  _tile_loadconfig(configuration);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
}

[[gnu::target("amx-tile,amx-int8")]] double amx_int8(std::size_t turns) {
  begin_tiles();
  turns /= 16;
  for (std::size_t turn = 0; turn < turns; ++turn) {
    _tile_dpbusd(0, 4, 5);
    _tile_dpbusd(1, 4, 5);
    _tile_dpbusd(2, 4, 5);
    _tile_dpbusd(3, 4, 5);
  }
  _tile_release();
  return static_cast<double>(turns) * 4 * 16 * 16 * 64 * 2;
}

[[gnu::target("amx-tile,amx-bf16")]] double amx_bf16(std::size_t turns) {
  begin_tiles();
  turns /= 16;
  for (std::size_t turn = 0; turn < turns; ++turn) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
  return static_cast<double>(turns) * 4 * 16 * 16 * 32 * 2;
}

#elif defined(__aarch64__)

double neon_f32(std::size_t turns) {
  float32x4_t sums[kChains];
  for (float32x4_t& sum : sums) sum = vdupq_n_f32(0.0f);
  float32x4_t a = vdupq_n_f32(0.5f);
  for (std::size_t turn = 0; turn < turns; ++turn) {
    asm volatile("" : "+w"(a));
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = vfmaq_f32(sums[i], a, a);
  }
  use(sums);
  return static_cast<double>(turns) * kChains * 4 * 2;
}

#ifdef __APPLE__
double neon_int8(std::size_t turns) {
#else
[[gnu::target("arch=armv8.2-a+dotprod")]] double neon_int8(std::size_t turns) {
#endif
  int32x4_t sums[kChains];
  for (int32x4_t& sum : sums) sum = vdupq_n_s32(0);
  int8x16_t a = vdupq_n_s8(1);
  for (std::size_t turn = 0; turn < turns; ++turn) {
    asm volatile("" : "+w"(a));
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = vdotq_s32(sums[i], a, a);
  }
  use(sums);
  return static_cast<double>(turns) * kChains * 16 * 2;
}

#endif

}  // namespace

PeakLoops peak_loops([[maybe_unused]] std::string_view kernels) {
#if defined(__x86_64__)
  if (kernels == "avx2") return {avx2_int8, avx2_f32, avx2_f32};
  if (kernels == "avx512") return {avx512_int8, avx512_bf16, avx512_f32};
  if (kernels == "amx") return {amx_int8, amx_bf16, avx512_f32};
#elif defined(__aarch64__)
  if (kernels == "neon") return {neon_int8, neon_f32, neon_f32};
#endif
  return {plain, plain, plain};
}

std::uint64_t read_in_order(const std::byte* from, std::size_t bytes) {
  using Words = std::uint64_t __attribute__((vector_size(16)));
  constexpr std::size_t kStride = 128;
  constexpr std::size_t kAhead = 2048;  // further than processors look by themselves
  constexpr int kVectors = kStride / sizeof(Words);
  Words sums[kVectors] = {};
  for (std::size_t at = 0; at + kStride <= bytes; at += kStride) {
    __builtin_prefetch(from + at + kAhead);
    __builtin_prefetch(from + at + kAhead + kStride / 2);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      Words words;
      std::memcpy(&words, from + at + static_cast<std::size_t>(i) * sizeof words, sizeof words);
      sums[i] += words;
    }
  }
  std::uint64_t sum = 0;
  for (const Words& words : sums) sum += words[0] + words[1];
  return sum;
}

}  // namespace cortex
