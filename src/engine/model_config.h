// A model to run, as the command line says it: where it is, and how it comes and goes. The engine loads it; whoever
// serves it reads its text side. Plain values: they cross to the worker process.
#pragma once

#include <optional>
#include <string>

#include "model/model_kind.h"

namespace cortex {

struct ModelConfig {
  std::string name;
  std::string path;
  std::optional<ModelKind> kind;  // absent: what its files make it
  bool load_at_start = true;      // else at its first request
  bool pinned = false;            // stays once it is loaded, unless it is told to go
};

}  // namespace cortex
