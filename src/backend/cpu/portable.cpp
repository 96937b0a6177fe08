// For any processor.
#include "backend/cpu/loops.h"

namespace cortex {

constinit const Kernels kPortableKernels = loops_named("portable");

}  // namespace cortex
