#include "engine/output_store.h"

#include <algorithm>
#include <utility>

namespace cortex {
namespace {

// A token, its place in the chain of its hash, and up to two slots of the index; twice of all, as vectors grow.
constexpr std::size_t kTokenBytes = 2 * (sizeof(TokenId) + 3 * sizeof(std::uint32_t));
constexpr std::size_t kSaltBytes = 512;  // an index's first slots, a map's node

}  // namespace

void OutputStore::add(std::string_view salt, std::span<const TokenId> tokens) {
  const std::size_t text_bytes = (tokens.size() + 1) * kTokenBytes;
  const std::size_t most = text_bytes + kSaltBytes + salt.size();
  if (most > half_bytes_) return;
  if (newer_.bytes + most > half_bytes_) older_ = std::exchange(newer_, {});
  auto it = newer_.texts.find(salt);
  if (it == newer_.texts.end()) {
    it = newer_.texts.emplace(salt, Texts{}).first;
    newer_.bytes += kSaltBytes + salt.size();
  }
  Texts& texts = it->second;
  newer_.bytes += text_bytes;
  texts.tokens.insert(texts.tokens.end(), tokens.begin(), tokens.end());
  texts.tokens.push_back(kNoToken);
  texts.index.read(texts.tokens, texts.tokens.size());
}

std::optional<OutputStore::Match> OutputStore::find(std::string_view salt, std::span<const TokenId> context) const {
  const auto newer = find_in(newer_, salt, context), older = find_in(older_, salt, context);
  return older && (!newer || older->matched > newer->matched) ? older : newer;
}

std::optional<OutputStore::Match> OutputStore::find_in(const Half& half, std::string_view salt,
                                                       std::span<const TokenId> context) {
  const auto it = half.texts.find(salt);
  if (it == half.texts.end()) return std::nullopt;
  const std::span<const TokenId> tokens = it->second.tokens;
  const auto match = it->second.index.find(tokens, context);
  if (!match) return std::nullopt;
  const auto next = tokens.subspan(match->next);
  return Match{next.first(static_cast<std::size_t>(std::ranges::find(next, kNoToken) - next.begin())), match->matched};
}

}  // namespace cortex
