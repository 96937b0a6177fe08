#include "engine/disk_tier.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/failure.h"

namespace cortex {
namespace {

// Of a file: opening it, and the step that its blocks wait for.
constexpr double kFileMs = 0.5;

constexpr std::size_t kPartsAhead = 2;

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
  const int files = blocks / kBlocksPerFile + 1;
  const double ms = kFileMs * files + 1e3 * bytes / store_->read_bytes_per_second();
  return compute_ms <= 0.0 || ms < compute_ms;
}

void DiskTier::restore(std::uint64_t id, PoolRestore asked) {
  Restore& restore = restores_[id];
  restore.asked = std::move(asked);
  const int end = restore.asked.first + static_cast<int>(restore.asked.blocks.size());
  for (int first = restore.asked.first, next = 0; first < end; first = next) {
    next = std::min(end, (first / kBlocksPerFile + 1) * kBlocksPerFile);
    restore.parts.push_back(next - first);
  }
  while (restore.requested < std::min(restore.parts.size(), kPartsAhead)) request_next(id, &restore);
}

void DiskTier::request_next(std::uint64_t id, Restore* restore) {
  const PoolRestore& asked = restore->asked;
  const auto earlier = std::span(restore->parts).first(restore->requested);
  const int first = std::accumulate(earlier.begin(), earlier.end(), asked.first);
  const int count = restore->parts[restore->requested];
  const auto end = static_cast<std::size_t>(first) + static_cast<std::size_t>(count);
  const auto chain = std::span(asked.chain).first(end);
  const auto tokens = std::span(asked.tokens).first(end * kBlockTokens);
  store_->read({.root = asked.root,
                .chain = {chain.begin(), chain.end()},
                .tokens = {tokens.begin(), tokens.end()},
                .first = first,
                .count = count,
                .block_bytes = block_bytes_},
               [post = post_, id](BlockReadResult read) { post({id, std::move(read)}); });
  ++restore->requested;
}

std::optional<DiskTier::Restored> DiskTier::take(const Part& part) {
  const auto it = restores_.find(part.restore);
  if (it == restores_.end()) return std::nullopt;
  auto& [id, restore] = *it;
  const int wanted = restore.parts[restore.come++];
  try {
    if (!restore.broken) write(part.read, wanted, &restore);
    if (!restore.broken && restore.requested < restore.parts.size()) request_next(id, &restore);
  } catch (...) {
    log_failure("blocks could not be restored", caught_error());
    restore.broken = true;
  }
  if (restore.come < restore.requested) return std::nullopt;
  const Restored restored{id, restore.written};
  restores_.erase(it);
  return restored;
}

void DiskTier::write(const BlockReadResult& read, int wanted, Restore* restore) {
  const int count = std::min(read.blocks, wanted);
  restore->broken = count < wanted;
  if (count == 0) return;
  const auto blocks = std::span(std::as_const(restore->asked.blocks))
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
