// Names of KV blocks: a chain of SHA-256, so that a block's key covers everything that its bytes depend on. The root
// covers the model and how it is computed, and whose blocks they are; each link covers its parent and its 16 token ids.
// Equal keys are equal bytes. Pure; any thread.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/step_plan.h"

namespace cortex {

struct BlockKey {
  std::array<std::uint8_t, 32> bytes{};
  auto operator<=>(const BlockKey&) const = default;
};

struct BlockKeyHash {
  std::size_t operator()(const BlockKey& key) const {
    std::size_t hash = 0;  // any part of a SHA-256 is as good as the whole
    std::memcpy(&hash, key.bytes.data(), sizeof hash);
    return hash;
  }
};

// 64 lower-case digits, and back; nothing when the text is not that.
std::string to_hex(const BlockKey& key);
std::optional<BlockKey> block_key_of_hex(std::string_view hex);

// Of parts whose boundaries count: ("ab", "c") and ("a", "bc") are two roots.
BlockKey root_key(std::span<const std::string_view> parts);

// `tokens` [kBlockTokens].
BlockKey next_key(const BlockKey& parent, std::span<const TokenId> tokens);

// The keys of the tokens' full blocks, [tokens.size() / kBlockTokens].
std::vector<BlockKey> block_keys(const BlockKey& root, std::span<const TokenId> tokens);

}  // namespace cortex
