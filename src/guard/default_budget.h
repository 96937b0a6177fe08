// What models may have where nobody has given them a budget: what the guard's ceiling leaves when a process that uses
// all of it is under no pressure and keeps room for tokenizers, connections and code. Any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "guard/memory_limits.h"

namespace cortex {

// Bytes for weights, KV and scratch of all models. `root` holds proc/ and sys/. Nothing where the machine tells no
// ceiling, and where models may be in the memory of a GPU that has its own.
std::optional<std::uint64_t> default_memory_budget(const std::filesystem::path& root, const MemoryLimits& limits);

}  // namespace cortex
