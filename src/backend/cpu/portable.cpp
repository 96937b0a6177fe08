// For any processor.
#include "backend/cpu/plain_kernels.h"

namespace cortex {

constinit const Kernels kPortableKernels = loops_named("portable");

}  // namespace cortex
