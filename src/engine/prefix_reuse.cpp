#include "engine/prefix_reuse.h"

#include <algorithm>

#include "base/error.h"
#include "kv/block_file.h"

namespace cortex {
namespace {

std::span<const TokenId> tokens_of(const Sequence& sequence, int first_block, int blocks) {
  return std::span(sequence.tokens)
      .subspan(static_cast<std::size_t>(first_block) * kBlockTokens, static_cast<std::size_t>(blocks) * kBlockTokens);
}

// What the tenants of one API key share: salts are "key" or "key:salt".
std::string_view kin_of(std::string_view salt) { return salt.substr(0, salt.find(':')); }

BlockKey root_of(const std::vector<std::string>& identity, std::string_view salt) {
  std::vector<std::string_view> parts(identity.begin(), identity.end());
  parts.push_back(salt);
  return root_key(parts);
}

}  // namespace

void PrefixReuse::name(Sequence* sequence) const {
  const std::string& salt = sequence->request.salt;
  sequence->root = root_of(identity_, salt);
  sequence->kin_root = kin_of(salt) == salt ? sequence->root : root_of(identity_, kin_of(salt));
}

int PrefixReuse::most_blocks(const Sequence& sequence) const {
  return (static_cast<int>(sequence.tokens.size()) - 1) / kBlockTokens;
}

void PrefixReuse::extend_keys(Sequence* sequence, int blocks) const {
  for (int block = static_cast<int>(sequence->keys.size()); block < blocks; ++block) {
    const auto tokens = tokens_of(*sequence, block, 1);
    const BlockKey parent = parent_of(*sequence, block);
    sequence->keys.push_back(next_key(parent, tokens));
    if (sequence->root == sequence->kin_root) {
      sequence->kin_keys.push_back(sequence->keys.back());
    } else {
      sequence->kin_keys.push_back(next_key(block == 0 ? sequence->kin_root : sequence->kin_keys.back(), tokens));
    }
  }
}

BlockKey PrefixReuse::parent_of(const Sequence& sequence, int block) const {
  return block == 0 ? sequence.root : sequence.keys[static_cast<std::size_t>(block) - 1];
}

PrefixReuse::Found PrefixReuse::find_in_pool(Sequence* sequence) const {
  Found found;
  const int most = most_blocks(*sequence);
  extend_keys(sequence, most);
  if (!sequence->reuses()) return found;
  const auto chain = std::span(std::as_const(sequence->keys)).first(static_cast<std::size_t>(most));
  found.blocks = pool_->index().find_chain(chain);
  found.coming = found.blocks.size() < chain.size() && announced_.contains(chain[found.blocks.size()]);
  return found;
}

CacheExplanation PrefixReuse::explain(const Sequence& sequence, const Found& found,
                                      std::span<const std::unique_ptr<Sequence>> running) const {
  const auto next = static_cast<int>(found.blocks.size()) + found.below;
  if (!sequence.reuses() || next >= most_blocks(sequence)) return {};
  const auto index = static_cast<std::size_t>(next);
  const std::span<const TokenId> tokens = tokens_of(sequence, next, 1);
  const BlockKey parent = parent_of(sequence, next);
  const auto miss = [](CacheMiss reason) { return CacheExplanation{reason, {}, {}}; };
  if (found.below == 0 && tier_ != nullptr && tier_->available(sequence.root, sequence.keys, next) > 0) {
    return miss(CacheMiss::cheaper_to_compute);
  }
  if (pool_->index().was_forgotten(sequence.keys[index])) return miss(CacheMiss::evicted);
  if (pool_->index().had_by_kin(sequence.kin_keys[index])) return miss(CacheMiss::other_salt);
  for (const auto& other : running) {
    const bool same_parent = static_cast<int>(other->keys.size()) >= next && parent_of(*other, next) == parent;
    const auto from = static_cast<std::size_t>(next) * kBlockTokens;
    if (same_parent && other->tokens.size() > from && other->tokens[from] == tokens.front()) {
      return miss(CacheMiss::not_yet_written);
    }
  }
  const auto common = pool_->index().common_tokens(parent, tokens);
  if (!common || (next == 0 && *common == 0)) return miss(CacheMiss::first_use);
  return {CacheMiss::diverged, next * kBlockTokens + *common, tokens[static_cast<std::size_t>(*common)]};
}

void PrefixReuse::start(Sequence* sequence) {
  sequence->published = sequence->announced = sequence->computed / kBlockTokens;
  for (; sequence->announced < most_blocks(*sequence); ++sequence->announced) {
    ++announced_[sequence->keys[static_cast<std::size_t>(sequence->announced)]];
  }
}

void PrefixReuse::publish(Sequence* sequence) {
  const int full = sequence->computed / kBlockTokens;
  extend_keys(sequence, full);
  for (; sequence->published < full; ++sequence->published) {
    const auto index = static_cast<std::size_t>(sequence->published);
    PrefixIndex::Link link{.parent = parent_of(*sequence, sequence->published),
                           .key = sequence->keys[index],
                           .tokens = {},
                           .kin = sequence->kin_keys[index]};
    std::ranges::copy(tokens_of(*sequence, sequence->published, 1), link.tokens.begin());
    pool_->index().add(sequence->blocks[index], link);
    if (sequence->published >= sequence->announced) continue;
    if (const auto it = announced_.find(link.key); --it->second == 0) announced_.erase(it);
  }
}

void PrefixReuse::stop(Sequence* sequence) {
  for (int block = sequence->published; block < sequence->announced; ++block) {
    const auto it = announced_.find(sequence->keys[static_cast<std::size_t>(block)]);
    if (--it->second == 0) announced_.erase(it);
  }
  sequence->announced = 0;
}

void PrefixReuse::keep(Sequence* sequence) {
  if (tier_ == nullptr || sequence->text) return;
  const int full = sequence->published;
  for (int first = sequence->kept / kBlocksPerFile * kBlocksPerFile; first < full; first += kBlocksPerFile) {
    const int count = std::min(kBlocksPerFile, full - first);
    const auto begin = static_cast<std::size_t>(first), size = static_cast<std::size_t>(count);
    if (first + count <= sequence->kept || !tier_->wants(sequence->keys[begin + size - 1])) continue;
    PoolRun run{.root = sequence->root, .parent = parent_of(*sequence, first), .first = first};
    const auto keys = std::span(sequence->keys).subspan(begin, size);
    const auto blocks = std::span(sequence->blocks).subspan(begin, size);
    const auto tokens = tokens_of(*sequence, first, count);
    run.keys.assign(keys.begin(), keys.end());
    run.blocks.assign(blocks.begin(), blocks.end());
    run.tokens.assign(tokens.begin(), tokens.end());
    tier_->keep(std::move(run));  // or it throws, and has no reference
    pool_->retain(blocks);
  }
  sequence->kept = full;
}

}  // namespace cortex
