// The processor itself: models run on one team of threads, in float32. Owned by the worker's engine, as backend.h says.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace cortex {

std::unique_ptr<Backend> open_cpu(const BackendOptions& options);

}  // namespace cortex
