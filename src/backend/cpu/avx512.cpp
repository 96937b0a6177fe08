// For x86 processors with AVX-512 (F, BW, DQ, VL) and its VNNI and BF16.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels.h"

// After what is the same for every processor.
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma,f16c")
#include "backend/cpu/avx512_attention.h"
#include "backend/cpu/avx512_linear.h"
#include "backend/cpu/plain_kernels.h"

namespace cortex {
namespace {

constexpr Kernels avx512_kernels() {
  Kernels kernels = loops_named("avx512");
  kernels.linear_int8 = linear_int8_tiles<Avx512>;
  kernels.linear_bf16 = linear_tiles<Avx512Bf16Tile>;
  kernels.linear_f32 = linear_f32_tiles<Avx512>;
  kernels.quantise = quantise_avx512;
  kernels.round_to_bf16 = round_to_bf16_avx512;
  kernels.attend = attend_avx512;
  kernels.keep = keep_avx512;
  return kernels;
}

}  // namespace

constinit const Kernels kAvx512Kernels = avx512_kernels();

}  // namespace cortex
