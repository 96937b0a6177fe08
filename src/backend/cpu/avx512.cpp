// For x86 processors with AVX-512F.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels.h"

// After what is the same for every processor.
#pragma GCC target("avx512f")
#include "backend/cpu/loops.h"

namespace cortex {

constinit const Kernels kAvx512Kernels = loops_named("avx512");

}  // namespace cortex
