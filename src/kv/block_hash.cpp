#include "kv/block_hash.h"

#include <openssl/sha.h>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

}  // namespace

std::string to_hex(const BlockKey& key) {
  std::string hex;
  for (const std::uint8_t byte : key.bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::optional<BlockKey> block_key_of_hex(std::string_view hex) {
  BlockKey key;
  if (hex.size() != 2 * key.bytes.size()) return std::nullopt;
  for (std::size_t i = 0; i < key.bytes.size(); ++i) {
    const auto high = kDigits.find(hex[2 * i]), low = kDigits.find(hex[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    key.bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return key;
}

BlockKey root_key(std::span<const std::string_view> parts) {
  std::string whole;
  for (const std::string_view part : parts) {
    for (int shift = 0; shift < 64; shift += 8) {
      whole += static_cast<char>(static_cast<std::uint64_t>(part.size()) >> shift & 0xff);
    }
    whole += part;
  }
  BlockKey key;
  SHA256(reinterpret_cast<const unsigned char*>(whole.data()), whole.size(), key.bytes.data());
  return key;
}

BlockKey next_key(const BlockKey& parent, std::span<const TokenId> tokens) {
  CORTEX_CHECK(tokens.size() == kBlockTokens);
  std::array<std::uint8_t, sizeof parent.bytes + kBlockTokens * sizeof(TokenId)> link;
  std::memcpy(link.data(), parent.bytes.data(), sizeof parent.bytes);
  std::memcpy(link.data() + sizeof parent.bytes, tokens.data(), tokens.size_bytes());
  BlockKey key;
  SHA256(link.data(), link.size(), key.bytes.data());
  return key;
}

std::vector<BlockKey> block_keys(const BlockKey& root, std::span<const TokenId> tokens) {
  std::vector<BlockKey> keys;
  keys.reserve(tokens.size() / kBlockTokens);
  for (BlockKey key = root; tokens.size() >= kBlockTokens; tokens = tokens.subspan(kBlockTokens)) {
    key = next_key(key, tokens.first(kBlockTokens));
    keys.push_back(key);
  }
  return keys;
}

}  // namespace cortex
