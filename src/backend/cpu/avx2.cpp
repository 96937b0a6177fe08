// For x86 processors with AVX2, FMA and F16C.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels.h"

// After what is the same for every processor.
#pragma GCC target("avx2,fma,f16c")
#include "backend/cpu/avx2_linear.h"
#include "backend/cpu/plain_kernels.h"

namespace cortex {
namespace {

constexpr Kernels avx2_kernels() {
  Kernels kernels = loops_named("avx2");
  kernels.linear_int8 = linear_int8_tiles<Avx2>;
  kernels.linear_bf16 = linear_bf16_tiles<Avx2>;
  kernels.linear_f32 = linear_f32_tiles<Avx2>;
  return kernels;
}

}  // namespace

constinit const Kernels kAvx2Kernels = avx2_kernels();

}  // namespace cortex
