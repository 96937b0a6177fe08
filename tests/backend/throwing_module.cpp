// A module whose device can't be used: what it throws must be caught as what it is on the other side.
#include "backend/module.h"
#include "base/error.h"

cortex::Backend* cortex_open_mlx(const cortex::BackendOptions* options) {
  if (options->threads == 7) throw cortex::CheckFailure("threads are seven");
  throw cortex::Error(cortex::ErrorCode::memory_pressure, "no device today", "threads");
}
