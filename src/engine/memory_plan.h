// What fits into memory, computed before a byte is allocated. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "backend/backend.h"

namespace cortex {

inline constexpr int kDefaultKvSequences = 8;
inline constexpr std::uint64_t kDefaultKvBytes = std::uint64_t{1} << 30;

// How many KV blocks a decoder gets: what fits into `kv_bytes`; without it, enough for kDefaultKvSequences sequences of
// the model's whole context or kDefaultKvBytes, whichever is less. Throws Error invalid_option when that is not even
// one block.
int kv_block_count(const KvGeometry& geometry, int context_tokens, std::optional<std::uint64_t> kv_bytes);

}  // namespace cortex
