#include "backend/mlx/device_memory.h"

#include <mlx/memory.h>

namespace cortex {

std::size_t mlx_device_bytes() { return mlx::core::get_active_memory() + mlx::core::get_cache_memory(); }

void trim_mlx() { mlx::core::clear_cache(); }

}  // namespace cortex
