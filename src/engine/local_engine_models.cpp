// How the engine's models come and go: at the start, when somebody asks for them, when nobody does any more, when
// memory is short, and when they are told to.
#include <fmt/core.h>

#include <algorithm>

#include "base/log.h"
#include "engine/failure.h"
#include "engine/local_engine.h"
#include "engine/sink_call.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;

// Of the blocks that leave memory under pressure, at a time.
constexpr int kEvictedBlocks = 64;
// Under pressure one model goes at a time, so that what it gives is seen before the next one does.
constexpr auto kBetweenEvictions = 1s;
// While the pressure is not severe, only what has been idle for so long.
constexpr auto kEvictedAfter = 10s;
// Devices keep buffers for the next step; under pressure not for long.
constexpr auto kBetweenTrims = 1s;
// A part by which a plan may be wrong.
constexpr std::uint64_t kPlannedWithin = 16;

}  // namespace

void LocalEngine::handle(Change change) {
  const auto slot = std::ranges::find(models_, change.model, [](const ModelSlot& s) { return s.status.name; });
  if (slot == models_.end()) {
    const Error unknown(ErrorCode::model_not_found, fmt::format("model: there is no \"{}\"", change.model), "model");
    answers_.emplace_back(std::move(change.sink), unknown);
  } else if (!change.loads) {
    unload(&*slot);
    answers_.emplace_back(std::move(change.sink), std::nullopt);
  } else if (slot->status.state == ModelState::ready) {
    answers_.emplace_back(std::move(change.sink), std::nullopt);
  } else {
    slot->sinks.push_back(std::move(change.sink));
    queue_load(static_cast<std::size_t>(slot - models_.begin()), true);
  }
}

void LocalEngine::queue_load(std::size_t model, bool on_demand) {
  ModelSlot& slot = models_[model];
  slot.unwanted = false;
  if (slot.status.state == ModelState::loading) return;
  to_load_.push_back(model);
  slot.status.state = ModelState::loading;
  slot.status.on_demand = on_demand;
  slot.status.progress = 0.0;
  slot.status.failure.clear();
}

// One at a time, so that each knows what memory the others have.
void LocalEngine::begin_load() {
  if (loading_ || to_load_.empty()) return;
  const std::size_t model = to_load_.front();
  if (!makes_room(model)) return;
  ++models_[model].loads;
  loader_thread_->load(model, options_.models[model], terms_of(model));
  loading_ = model;
  to_load_.pop_front();
}

bool LocalEngine::makes_room(std::size_t model) {
  if (!refused_bytes_) return true;
  if (ModelSlot* idle = longest_idle()) {
    unload(idle);
  } else if (ledger_.room_bytes(model) <= refused_bytes_ && may_wait_for_room(model)) {
    return false;
  }
  refused_bytes_.reset();
  return true;
}

LoadTerms LocalEngine::terms_of(std::size_t model) {
  LoadTerms terms{.memory_bytes = ledger_.room_bytes(model),
                  .others = {},
                  .kv_bytes = options_.kv_bytes,
                  .rows_per_step = options_.rows_per_step,
                  .stream_dir = options_.stream_dir};
  for (const std::size_t other : to_load_) {
    if (other != model) terms.others.push_back(options_.models[other]);
  }
  // What is there at the start shares the room; later an idle model rather goes than that another is cut down.
  terms.whole = terms.memory_bytes && models_[model].status.on_demand && longest_idle() != nullptr;
  return terms;
}

bool LocalEngine::may_wait_for_room(std::size_t model) const {
  for (std::size_t other = 0; other < models_.size(); ++other) {
    if (other != model && !models_[other].status.pinned && ledger_.reserved_bytes(other) > 0) return true;
  }
  return false;
}

void LocalEngine::handle(Loaded loaded) {
  ModelSlot& slot = models_[loaded.model];
  loading_.reset();
  try {
    if (slot.unwanted) {
      slot.unwanted = false;
      return slot.unload();
    }
    const auto* error = std::get_if<Error>(&loaded.outcome);
    const bool has_room = error != nullptr
                              ? error->code() != ErrorCode::request_cannot_fit
                              : ledger_.reserve(loaded.model, std::get<LoadedModel>(loaded.outcome).plan.total_bytes());
    if (!has_room && may_wait_for_room(loaded.model)) {
      to_load_.push_front(loaded.model);
      refused_bytes_ = ledger_.room_bytes(loaded.model);
      return;
    }
    if (error != nullptr) throw *error;
    if (!has_room) throw Error(ErrorCode::request_cannot_fit, "what it was planned to take is taken");
    grammars_.limit_cache(loaded.model, std::get<LoadedModel>(loaded.outcome).plan.grammar_cache_bytes);
    slot.install(std::move(std::get<LoadedModel>(loaded.outcome)), options_, store_.get(),
                 [this, model = loaded.model, load = slot.loads](DiskTier::Part part) {
                   inbox_.send(ReadPart{model, load, std::move(part)});
                 });
  } catch (...) {
    fail_model(&slot, caught_error());
  }
  tell(&slot, std::nullopt);
  for (const RequestId id : std::exchange(slot.held, {})) start(id);
}

void LocalEngine::fail_loading() {
  drain_inbox(std::chrono::nanoseconds(0));  // what it could still tell came before
  if (!loading_) return;
  ModelSlot& slot = models_[*loading_];
  loading_.reset();
  fail_model(&slot, Error(ErrorCode::model_failed, "out of memory"));
}

void LocalEngine::unload(ModelSlot* slot) {
  const Error gone(ErrorCode::model_loading, fmt::format("model {} was unloaded", slot->status.name), "model");
  end_all(*slot, gone);
  slot->held.clear();
  tell(slot, gone);
  if (slot->status.state == ModelState::loading) {
    const auto queued = std::ranges::find(to_load_, static_cast<std::size_t>(slot - models_.data()));
    slot->unwanted = queued == to_load_.end();  // else it is on the loader's thread
    if (slot->unwanted) return;
    to_load_.erase(queued);
    refused_bytes_.reset();
  }
  if (slot->status.state == ModelState::unloaded) return;
  ledger_.release(static_cast<std::size_t>(slot - models_.data()));
  grammars_.drop(static_cast<std::size_t>(slot - models_.data()));
  slot->unload();
}

void LocalEngine::fail_model(ModelSlot* slot, const Error& why) {
  ledger_.release(static_cast<std::size_t>(slot - models_.data()));
  slot->fail(why.message());
  const Error error = slot->failure();
  log_error(error.message());
  end_all(*slot, error);
  grammars_.drop(static_cast<std::size_t>(slot - models_.data()));
  tell(slot, why.code() == ErrorCode::request_cannot_fit ? why : error);
}

void LocalEngine::tell(ModelSlot* slot, const std::optional<Error>& error) {
  for (ModelSink& sink : slot->sinks) answers_.emplace_back(std::move(sink), error);
  slot->sinks.clear();
}

void LocalEngine::answer() {
  for (auto& [sink, error] : std::exchange(answers_, {})) call(sink, std::move(error));
}

bool LocalEngine::tend_models() {
  note_idle_models();
  const TimePoint now = clock_.steady_now();
  if (options_.idle_unload_s > 0) {
    for (ModelSlot& slot : models_) {
      if (may_go(slot) && now - *slot.idle_since >= std::chrono::seconds(options_.idle_unload_s)) unload(&slot);
    }
  }
  bool gives_back = false;
  if (budget_.evicts) gives_back = evict(now);
  if (!budget_.background && now - trimmed_ >= kBetweenTrims) {
    trimmed_ = now;
    for (ModelSlot& slot : models_) slot.trim();
  }
  settle();
  begin_load();
  return gives_back;
}

void LocalEngine::settle() {
  if (!options_.memory_bytes) return;
  for (std::size_t model = 0; model < models_.size(); ++model) {
    const LoadedModel& loaded = models_[model].loaded;
    std::uint64_t bytes = grammars_.bytes(model);
    if (loaded.decoder) bytes += loaded.decoder->memory_bytes();
    if (loaded.encoder) bytes += loaded.encoder->memory_bytes();
    const std::uint64_t planned = ledger_.reserved_bytes(model);
    if (bytes <= planned + planned / kPlannedWithin || ledger_.reserve(model, bytes)) continue;
    if (ModelSlot* idle = longest_idle()) unload(idle);
  }
}

void LocalEngine::note_idle_models() {
  std::vector<bool> used(models_.size(), false);
  const auto note = [&](const auto& jobs) {
    for (const auto& [id, job] : jobs) used[job.model] = true;
  };
  note(generations_);
  note(encodings_);
  const TimePoint now = clock_.steady_now();
  for (std::size_t i = 0; i < models_.size(); ++i) {
    ModelSlot& slot = models_[i];
    const bool idle = slot.status.state == ModelState::ready && !used[i];
    if (!idle) {
      slot.idle_since.reset();
    } else if (!slot.idle_since) {
      slot.idle_since = now;
    }
  }
}

bool LocalEngine::may_go(const ModelSlot& slot) { return slot.idle_since.has_value() && !slot.status.pinned; }

ModelSlot* LocalEngine::longest_idle() {
  ModelSlot* found = nullptr;
  for (ModelSlot& slot : models_) {
    if (may_go(slot) && (found == nullptr || *slot.idle_since < *found->idle_since)) found = &slot;
  }
  return found;
}

bool LocalEngine::evict(TimePoint now) {
  bool gives_back = false;
  for (ModelSlot& slot : models_) gives_back = slot.evict_blocks(kEvictedBlocks) || gives_back;
  if (now - evicted_ < kBetweenEvictions) return gives_back;
  ModelSlot* slot = longest_idle();
  if (slot == nullptr || (!budget_.preempts && now - *slot->idle_since < kEvictedAfter)) return gives_back;
  evicted_ = now;
  unload(slot);
  return gives_back;
}

}  // namespace cortex
