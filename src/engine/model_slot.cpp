#include "engine/model_slot.h"

#include <fmt/core.h>

#include <utility>

#include "base/log.h"
#include "engine/memory_plan.h"

namespace cortex {

void ModelSlot::install(LoadedModel new_loaded, const EngineOptions& options) {
  loaded = std::move(new_loaded);
  status.backend = loaded.backend;
  status.device = loaded.device;
  if (DecoderBackend* decoder = loaded.decoder.get()) {
    const int blocks = kv_block_count(decoder->kv_geometry(), loaded.limits.context_tokens, options.kv_bytes);
    decoder->reserve_kv(blocks);
    pool = std::make_unique<BlockPool>(blocks);
    scheduler = std::make_unique<Scheduler>(SchedulerLimits{options.rows_per_step, options.max_sequences}, pool.get());
    texts = std::make_unique<TextSequences>(scheduler.get(), options.rows_per_step);
    log_info(fmt::format("model {} is ready on {} with KV space for {} tokens", status.name, status.backend,
                         static_cast<std::int64_t>(blocks) * kBlockTokens));
  } else {
    queue = std::make_unique<EncodeQueue>(options.encode_batch_tokens);
    log_info(fmt::format("model {} is ready on {}", status.name, status.backend));
  }
  status.state = ModelState::ready;
  status.progress = 1.0;
}

void ModelSlot::fail(const std::string& why) {
  status.state = ModelState::failed;
  status.bytes = 0;
  consecutive_failures = 0;  // it steps no more; the state says how it is
  texts.reset();
  scheduler.reset();
  queue.reset();
  pool.reset();
  loaded = {};
  status.failure = why;
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

int ModelSlot::entered() const {
  if (scheduler) return scheduler->running() - scheduler->running_texts() + texts->requests();
  return queue ? queue->jobs() : 0;
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
