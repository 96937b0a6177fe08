#include "engine/disk_tier.h"

#include <algorithm>
#include <utility>

#include "engine/failure.h"

namespace cortex {
namespace {

// Of a file: opening it, and the step that its blocks wait for.
constexpr double kFileMs = 0.5;

}  // namespace

DiskTier::DiskTier(DiskStore* store, DecoderBackend* decoder, BlockPool* pool, std::function<void(Part)> post)
    : store_(store),
      decoder_(decoder),
      pool_(pool),
      post_(std::move(post)),
      block_bytes_(decoder->kv_geometry().block_bytes) {}

int DiskTier::available(const BlockKey& root, std::span<const BlockKey> chain, int first) const {
  return store_->available(root, chain, first);
}

bool DiskTier::worth_reading(int blocks, double compute_ms) const {
  const double bytes = static_cast<double>(blocks) * static_cast<double>(block_bytes_);
  const int files = blocks / kRunBlocks + 1;
  const double ms = kFileMs * files + 1e3 * bytes / store_->read_bytes_per_second();
  return compute_ms <= 0.0 || ms < compute_ms;
}

void DiskTier::restore(std::uint64_t id, PoolRestore restore) {
  Restore& kept = restores_[id];
  kept.blocks = std::move(restore.blocks);
  const int end = restore.first + static_cast<int>(kept.blocks.size());
  for (int first = restore.first, next = 0; first < end; first = next) {
    next = std::min(end, (first / kRunBlocks + 1) * kRunBlocks);
    kept.parts.push_back(next - first);
    const auto until = static_cast<std::size_t>(next);
    const auto chain = std::span(restore.chain).first(until);
    const auto tokens = std::span(restore.tokens).first(until * kBlockTokens);
    store_->read({.root = restore.root,
                  .chain = {chain.begin(), chain.end()},
                  .tokens = {tokens.begin(), tokens.end()},
                  .first = first,
                  .count = next - first,
                  .block_bytes = block_bytes_},
                 [post = post_, id](BlockReadResult read) { post({id, std::move(read)}); });
  }
}

std::optional<DiskTier::Restored> DiskTier::take(const Part& part) {
  const auto it = restores_.find(part.restore);
  if (it == restores_.end()) return std::nullopt;
  Restore& restore = it->second;
  const int wanted = restore.parts[restore.come++];
  try {
    if (!restore.broken) write(part.read, wanted, &restore);
  } catch (...) {
    log_failure("blocks could not be restored", caught_error());
    restore.broken = true;
  }
  if (restore.come < restore.parts.size()) return std::nullopt;
  const Restored restored{it->first, restore.written};
  restores_.erase(it);
  return restored;
}

void DiskTier::write(const BlockReadResult& read, int wanted, Restore* restore) {
  const int count = std::min(read.blocks, wanted);
  restore->broken = count < wanted;
  if (count == 0) return;
  const auto blocks = std::span(std::as_const(restore->blocks))
                          .subspan(static_cast<std::size_t>(restore->written), static_cast<std::size_t>(count));
  decoder_->write_blocks(blocks, std::span(read.bytes).first(blocks.size() * block_bytes_));
  restore->written += count;
}

bool DiskTier::wants(const BlockKey& last) const { return !store_->has_run(last); }

bool DiskTier::give_up() {
  for (const PoolRun& run : kept_) pool_->release(run.blocks);
  return !std::exchange(kept_, {}).empty();
}

bool DiskTier::write_next() {
  if (kept_.empty()) return false;
  const PoolRun run = std::move(kept_.front());
  kept_.pop_front();
  StoredRun stored{
      .root = run.root, .parent = run.parent, .first_block = run.first, .keys = run.keys, .tokens = run.tokens};
  try {
    if (wants(run.keys.back())) {
      stored.payload.resize(run.blocks.size() * block_bytes_);
      decoder_->read_blocks(run.blocks, stored.payload);
      store_->write(std::move(stored));
    }
  } catch (...) {
    log_failure("blocks could not be kept", caught_error());
  }
  pool_->release(run.blocks);
  return true;
}

}  // namespace cortex
