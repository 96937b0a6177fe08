#include "kv/prefix_index.h"

#include <algorithm>

#include "base/error.h"

namespace cortex {

bool PrefixIndex::add(BlockId block, const Link& link) {
  CORTEX_CHECK(!links_.contains(block));
  if (!blocks_.try_emplace(link.key, block).second) return false;
  links_.emplace(block, link);
  children_.emplace(link.parent, block);
  ++kin_[link.kin];
  return true;
}

void PrefixIndex::forget(BlockId block) {
  const auto it = links_.find(block);
  CORTEX_CHECK(it != links_.end());
  const Link& link = it->second;
  blocks_.erase(link.key);
  const auto [begin, end] = children_.equal_range(link.parent);
  children_.erase(std::find_if(begin, end, [&](const auto& child) { return child.second == block; }));
  if (const auto kin = kin_.find(link.kin); --kin->second == 0) kin_.erase(kin);
  ++forgotten_[link.key];
  forgotten_order_.push_back(link.key);
  links_.erase(it);
  if (forgotten_order_.size() <= kRememberedKeys) return;
  if (const auto oldest = forgotten_.find(forgotten_order_.front()); --oldest->second == 0) forgotten_.erase(oldest);
  forgotten_order_.pop_front();
}

std::optional<BlockId> PrefixIndex::find(const BlockKey& key) const {
  const auto it = blocks_.find(key);
  if (it == blocks_.end()) return std::nullopt;
  return it->second;
}

std::vector<BlockId> PrefixIndex::find_chain(std::span<const BlockKey> keys) const {
  std::vector<BlockId> chain;
  for (const BlockKey& key : keys) {
    const auto block = find(key);
    if (!block) break;
    chain.push_back(*block);
  }
  return chain;
}

std::optional<int> PrefixIndex::common_tokens(const BlockKey& parent, std::span<const TokenId> tokens) const {
  std::optional<int> most;
  const auto [begin, end] = children_.equal_range(parent);
  for (auto child = begin; child != end; ++child) {
    const auto& theirs = links_.at(child->second).tokens;
    const auto differs = std::ranges::mismatch(theirs, tokens).in1;
    most = std::max(most.value_or(0), static_cast<int>(differs - theirs.begin()));
  }
  return most;
}

}  // namespace cortex
