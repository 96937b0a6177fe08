#include "engine/memory_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace cortex {

int kv_block_count(const KvGeometry& geometry, int context_tokens, std::optional<std::uint64_t> kv_bytes) {
  CORTEX_CHECK(geometry.block_bytes > 0 && context_tokens > 0);
  const std::uint64_t budget = kv_bytes.value_or(kDefaultKvBytes);
  std::uint64_t blocks = budget / geometry.block_bytes;
  if (blocks == 0) {
    throw Error(ErrorCode::invalid_option, fmt::format("kv_bytes: {} bytes hold no block; this model's take {} each",
                                                       budget, geometry.block_bytes));
  }
  if (!kv_bytes) {
    const int sequence_blocks = (context_tokens - 1) / kBlockTokens + 1;
    blocks = std::min(blocks, static_cast<std::uint64_t>(sequence_blocks) * kDefaultKvSequences);
  }
  // A block id and the tokens of all blocks must stay below 2^31.
  const auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max() / kBlockTokens);
  return static_cast<int>(std::min(blocks, most));
}

}  // namespace cortex
