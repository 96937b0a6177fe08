// For Arm processors with NEON's products of 8-bit integers: all that Apple makes, and most others since 2018.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels.h"

// After what is the same for every processor; Apple's compiler has it on.
#ifndef __APPLE__
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include "backend/cpu/neon_linear.h"
#include "backend/cpu/plain_kernels.h"

namespace cortex {
namespace {

constexpr Kernels neon_kernels() {
  Kernels kernels = loops_named("neon");
  kernels.linear_int8 = linear_int8_tiles<Neon>;
  kernels.linear_bf16 = linear_bf16_tiles<Neon>;
  kernels.linear_f32 = linear_f32_tiles<Neon>;
  return kernels;
}

}  // namespace

constinit const Kernels kNeonKernels = neon_kernels();

}  // namespace cortex
