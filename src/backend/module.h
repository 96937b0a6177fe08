// The entry point of a backend that is a module of its own, loaded when it is asked for, so that a machine without its
// library still runs. Both sides are built together from one tree: C++ objects and exceptions cross freely.
#pragma once

#include "backend/backend.h"

namespace cortex {

inline constexpr char kMlxModuleFile[] = "libcortex_mlx.so";
inline constexpr char kMlxModuleEntry[] = "cortex_open_mlx";

using OpenModule = Backend*(const BackendOptions*);

}  // namespace cortex

// The caller owns the result. Throws Error when the device can't be used.
extern "C" __attribute__((visibility("default"))) cortex::Backend* cortex_open_mlx(
    const cortex::BackendOptions* options);
