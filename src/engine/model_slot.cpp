#include "engine/model_slot.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/log.h"
#include "base/resident_memory.h"
#include "engine/memory_plan.h"
#include "engine/suffix_drafter.h"

namespace cortex {
namespace {

// Goes up whenever the same files would give other blocks.
constexpr std::string_view kKvVersion = "cortex-kv-1";

// What the pool grows into next has its memory while the engine is idle: a part of the pool, at most so many bytes.
constexpr int kPreparedPart = 4;
constexpr std::size_t kPreparedBytes = std::size_t{256} << 20;
// At a time: a request that arrives meanwhile waits for it.
constexpr std::size_t kPreparedAtOnce = std::size_t{2} << 20;

// All that a block's bytes depend on but tokens and salt: the files say weights, rope and vocabulary, the numeric class
// the arithmetic.
std::vector<std::string> identity_of(const LoadedModel& loaded, const KvGeometry& geometry) {
  return {std::string(kKvVersion), loaded.fingerprint,     loaded.backend,
          geometry.layout,         geometry.numeric_class, std::to_string(geometry.block_bytes)};
}

}  // namespace

void ModelSlot::install(LoadedModel new_loaded, const EngineOptions& options, DiskStore* store,
                        std::function<void(DiskTier::Part)> post) {
  loaded = std::move(new_loaded);
  status.backend = loaded.backend;
  status.device = loaded.device;
  status.plan = to_text(loaded.plan);
  if (DecoderBackend* decoder = loaded.decoder.get()) {
    const KvGeometry geometry = decoder->kv_geometry();
    const int rows = loaded.plan.rows_per_step, blocks = loaded.plan.kv_blocks;
    decoder->reserve_kv(blocks);
    pool = std::make_unique<BlockPool>(blocks);
    if (store != nullptr) tier = std::make_unique<DiskTier>(store, decoder, pool.get(), std::move(post));
    scheduler = std::make_unique<Scheduler>(SchedulerLimits{rows, std::min(options.max_sequences, rows - kBlockTokens)},
                                            pool.get(), identity_of(loaded, geometry), tier.get());
    scheduler->set_failpoint(failpoint);
    if (options.speculation) scheduler->draft_with(std::make_unique<SuffixDrafter>(), loaded.limits.vocabulary);
    texts = std::make_unique<TextSequences>(scheduler.get(), rows);
    log_info(fmt::format("model {} is ready on {} with KV space for {} tokens", status.name, status.backend,
                         static_cast<std::int64_t>(blocks) * kBlockTokens));
  } else {
    // A plan has room for a text, however long; a batch may be no longer where there is no more.
    const int most = options.memory_bytes ? loaded.limits.context_tokens : options.encode_batch_tokens;
    queue = std::make_unique<EncodeQueue>(std::clamp(options.encode_batch_tokens, 1, std::max(most, 1)));
    log_info(fmt::format("model {} is ready on {}", status.name, status.backend));
  }
  status.state = ModelState::ready;
  status.progress = 1.0;
}

void ModelSlot::unload() {
  while (tier && tier->write_next()) {
  }
  drop();
  status.state = ModelState::unloaded;
  log_info(fmt::format("model {} is unloaded", status.name));
}

void ModelSlot::fail(const std::string& why) {
  drop();
  status.state = ModelState::failed;
  status.failure = why;
}

void ModelSlot::drop() {
  status.bytes = 0;
  status.progress = 0.0;
  status.failure.clear();
  status.plan.clear();
  status.kv = {};
  status.speculation = {};
  consecutive_failures = 0;  // it steps no more; the state says how it is
  texts.reset();
  scheduler.reset();
  tier.reset();
  queue.reset();
  pool.reset();
  prepared_blocks = 0;
  encode_times = {};
  loaded = {};
  give_back_free_memory();
}

Error ModelSlot::failure() const {
  return {ErrorCode::model_failed, fmt::format("model {} failed: {}", status.name, status.failure), "model"};
}

void ModelSlot::require_ready() const {
  if (status.state != ModelState::ready) throw failure();
}

void ModelSlot::cancel(RequestId id) {
  if (texts) texts->cancel(id);  // a generation in the scheduler too
  if (queue) queue->cancel(id);
}

bool ModelSlot::evict_blocks(int most) {
  if (!pool) return false;
  const int first_prepared = pool->touched_blocks();
  const int evicted = pool->evict(most);
  std::vector<BlockId> empty = pool->take_touched();
  for (BlockId block = first_prepared; block < prepared_blocks; ++block) empty.push_back(block);
  prepared_blocks = 0;
  if (!empty.empty()) loaded.decoder->discard(empty);
  return evicted > 0;
}

int ModelSlot::entered() const {
  return entered_encodings() + (scheduler ? scheduler->running() - scheduler->running_texts() : 0);
}

int ModelSlot::entered_encodings() const {
  if (texts) return texts->requests();
  return queue ? queue->jobs() : 0;
}

bool ModelSlot::prepare_blocks() {
  if (!pool) return false;
  const std::size_t block_bytes = loaded.decoder->kv_geometry().block_bytes;
  const int ahead = std::min(pool->total_blocks() / kPreparedPart, static_cast<int>(kPreparedBytes / block_bytes));
  const int end = std::min(pool->total_blocks(), pool->touched_blocks() + ahead);
  const int first = std::max(prepared_blocks, pool->touched_blocks());
  const int count = std::min(end - first, static_cast<int>(kPreparedAtOnce / block_bytes) + 1);
  if (count <= 0) return false;
  std::vector<BlockId> blocks(static_cast<std::size_t>(count));
  std::iota(blocks.begin(), blocks.end(), first);
  loaded.decoder->prepare(blocks);
  prepared_blocks = first + count;
  return true;
}

std::size_t ModelSlot::device_bytes() const {
  if (loaded.decoder) return loaded.decoder->device_bytes();
  return loaded.encoder ? loaded.encoder->device_bytes() : 0;
}

void ModelSlot::trim() {
  if (loaded.decoder) loaded.decoder->trim();
  if (loaded.encoder) loaded.encoder->trim();
}

bool ModelSlot::in_step() const { return (scheduler && scheduler->in_step()) || (queue && queue->in_batch()); }

std::span<const RequestId> ModelSlot::fail_step() {
  if (scheduler) {
    if (scheduler->in_step()) scheduler->fail_step();
    return scheduler->planned();
  }
  if (queue->in_batch()) queue->fail_batch();
  return queue->planned();
}

}  // namespace cortex
