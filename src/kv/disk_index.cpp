#include "kv/disk_index.h"

#include <cstring>
#include <iterator>

#include "base/error.h"

namespace cortex {
namespace {

template <typename Beginnings>
int common(const Beginnings& a, const Beginnings& b) {
  int blocks = 0;
  while (blocks < kBlocksPerFile && a[static_cast<std::size_t>(blocks)] != 0 &&
         a[static_cast<std::size_t>(blocks)] == b[static_cast<std::size_t>(blocks)]) {
    ++blocks;
  }
  return blocks;
}

}  // namespace

DiskIndex::Beginnings DiskIndex::beginnings_of(std::span<const BlockKey> keys) {
  CORTEX_CHECK(!keys.empty() && keys.size() <= kBlocksPerFile);
  Beginnings beginnings{};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    std::memcpy(&beginnings[i], keys[i].bytes.data(), sizeof beginnings[i]);
    beginnings[i] |= 1;  // 0 is none
  }
  return beginnings;
}

void DiskIndex::add(const Name& name, const BlockKey& parent, std::span<const BlockKey> keys, std::uint64_t bytes,
                    std::chrono::system_clock::time_point modified) {
  add(name, parent, keys, bytes, Use{.by_us = false, .order = modified.time_since_epoch().count()});
}

void DiskIndex::add(const Name& name, const BlockKey& parent, std::span<const BlockKey> keys, std::uint64_t bytes) {
  add(name, parent, keys, bytes, Use{.by_us = true, .order = ++uses_});
}

void DiskIndex::add(const Name& name, const BlockKey& parent, std::span<const BlockKey> keys, std::uint64_t bytes,
                    Use use) {
  const Beginnings beginnings = beginnings_of(keys);
  remove(name.last_key);
  // Other blocks whose keys begin alike: one in 2^63 a block, or foul play. The newcomer is found.
  if (const auto other = runs_.find(beginnings); other != runs_.end()) remove(BlockKey(other->second));
  files_.emplace(name.last_key, File{name.root, parent, beginnings, bytes, use});
  runs_.emplace(beginnings, name.last_key);
  bytes_ += bytes;
  if (!continued(name.last_key)) victims_.emplace(use, name.last_key);
  ++children_[parent];
  if (const auto above = files_.find(parent); above != files_.end()) victims_.erase({above->second.use, parent});
}

void DiskIndex::remove(const BlockKey& last_key) {
  const auto found = files_.find(last_key);
  if (found == files_.end()) return;
  const File file = found->second;
  victims_.erase({file.use, last_key});
  runs_.erase(file.beginnings);
  files_.erase(found);
  bytes_ -= file.bytes;
  const auto children = children_.find(file.parent);
  if (--children->second > 0) return;
  children_.erase(children);
  if (const auto above = files_.find(file.parent); above != files_.end()) {
    victims_.emplace(above->second.use, file.parent);
  }
}

void DiskIndex::use(const BlockKey& last_key) {
  const auto found = files_.find(last_key);
  if (found == files_.end()) return;
  const bool was_victim = victims_.erase({found->second.use, last_key}) > 0;
  found->second.use = Use{.by_us = true, .order = ++uses_};
  if (was_victim) victims_.emplace(found->second.use, last_key);
}

std::optional<DiskIndex::Match> DiskIndex::find(std::span<const BlockKey> keys) const {
  const Beginnings wanted = beginnings_of(keys);
  const auto behind = runs_.lower_bound(wanted);
  Match best;
  const auto consider = [&](auto run) {
    const int blocks = common(wanted, run->first);
    if (blocks > best.blocks) best = {{files_.at(run->second).root, run->second}, blocks};
  };
  if (behind != runs_.end()) consider(behind);
  if (behind != runs_.begin()) consider(std::prev(behind));
  if (best.blocks == 0) return std::nullopt;
  return best;
}

std::optional<DiskIndex::Name> DiskIndex::find_shorter(std::span<const BlockKey> keys) const {
  Beginnings shorter = beginnings_of(keys);
  for (std::size_t blocks = keys.size() - 1; blocks > 0; --blocks) {
    shorter[blocks] = 0;
    const auto run = runs_.find(shorter);
    if (run != runs_.end()) return Name{files_.at(run->second).root, run->second};
  }
  return std::nullopt;
}

std::optional<DiskIndex::Name> DiskIndex::victim() const {
  if (victims_.empty()) return std::nullopt;
  const BlockKey& last_key = victims_.begin()->second;
  return Name{files_.at(last_key).root, last_key};
}

}  // namespace cortex
