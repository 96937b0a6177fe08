// For x86 processors with AVX2.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels.h"

// After what is the same for every processor.
#pragma GCC target("avx2,fma,f16c")
#include "backend/cpu/plain_kernels.h"

namespace cortex {

constinit const Kernels kAvx2Kernels = loops_named("avx2");

}  // namespace cortex
