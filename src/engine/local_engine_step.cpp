// What one step of the engine is: which model's turn it is, what the device computes, who hears of it.
#include <fmt/core.h>

#include <algorithm>

#include "engine/failure.h"
#include "engine/local_engine.h"
#include "engine/sink_call.h"

namespace cortex {
namespace {

// A step's prompt rows, or a batch, while another model waits for its turn.
constexpr double kTurnMs = 40.0;

}  // namespace

bool LocalEngine::compute_within_budget() {
  for (ModelSlot& slot : models_) {
    if (budget_.preempts && slot.scheduler) {
      current_.guard_preempted += static_cast<std::uint64_t>(slot.scheduler->preempt_above(most_sequences()));
    }
  }
  if (budget_.cancels) cancel_youngest();
  const bool worked = compute();
  if (worked) resumes_ = clock_.steady_now() + budget_.pause;
  return worked;
}

int LocalEngine::most_sequences() const {
  return std::max(1, static_cast<int>(options_.max_sequences * budget_.sequence_share));
}

void LocalEngine::cancel_youngest() {
  std::optional<std::pair<TimePoint, RequestId>> youngest;
  const auto look = [&](const auto& jobs) {
    for (const auto& [id, job] : jobs) youngest = std::max(youngest, std::optional(std::pair(job.submitted, id)));
  };
  look(generations_);
  look(encodings_);
  if (!youngest) return;
  ++current_.guard_cancelled;
  end(youngest->second, Error(budget_.cause, budget_.cause == ErrorCode::memory_pressure
                                                 ? "the request was ended: memory is too short to go on"
                                                 : "the request was ended: the machine is too hot to go on"));
}

bool LocalEngine::compute() {
  const std::vector<ModelSlot*> order = turn_order();
  const bool alone = order.size() == 1;
  return std::ranges::any_of(order, [&](ModelSlot* slot) {
    const double begin = now_ms();
    const bool worked = slot->scheduler ? step(slot, alone) : encode_batch(slot, alone);
    slot->used_ms += now_ms() - begin;
    return worked;
  });
}

// A model that had no work begins with no more to catch up on than those that had.
std::vector<ModelSlot*> LocalEngine::turn_order() {
  std::vector<ModelSlot*> order;
  std::optional<double> least;
  for (ModelSlot& slot : models_) {
    if (!slot.has_work()) continue;
    order.push_back(&slot);
    if (slot.had_work) least = std::min(least.value_or(slot.used_ms), slot.used_ms);
  }
  for (ModelSlot& slot : models_) {
    const bool has_work = slot.has_work();
    if (has_work && !slot.had_work && least) slot.used_ms = std::max(slot.used_ms, *least);
    slot.had_work = has_work;
  }
  std::ranges::stable_sort(order, {}, &ModelSlot::used_ms);
  return order;
}

bool LocalEngine::step(ModelSlot* slot, bool alone) {
  Scheduler& scheduler = *slot->scheduler;
  bool planned = true;
  TimePoint end;
  std::vector<SequenceEvent> events;
  const auto failure = attempt(slot, [&] {
    StepTime time{.now_ms = now_ms()};
    if (!alone) time.alone_ms = kTurnMs;
    time.alone_ms *= budget_.time_share;
    time.beside_ms *= budget_.time_share;
    time.crowded_ms *= budget_.time_share;
    time.most_sequences = most_sequences();
    time.drafts = budget_.drafts;
    const StepPlan& plan = scheduler.plan(time);
    planned = !plan.slices.empty();
    if (!planned) return;
    const TimePoint begin = clock_.steady_now();
    for (const RequestId id : scheduler.planned()) {
      const auto generation = generations_.find(id);
      auto& started = generation != generations_.end() ? generation->second.started : encodings_.at(id).started;
      if (!started) started = begin;
    }
    const StepKind kind = scheduler.planned_kind();
    reach(kind == StepKind::decode ? "decode" : "prompt", plan.tokens);
    StepResult result;
    slot->loaded.decoder->submit(plan);
    slot->loaded.decoder->collect(&result);
    current_.last_step = end = clock_.steady_now();
    scheduler.measured(milliseconds_between(begin, end));
    note_step(*slot, kind, scheduler.planned_size(), milliseconds_between(begin, end));
    events = scheduler.commit(result);
  });
  for (SequenceEvent& event : scheduler.take_failed()) {
    planned = true;
    deliver(std::move(event), clock_.steady_now());
  }
  if (failure) fail_step(slot, *failure);
  for (SequenceEvent& event : events) {
    if (event.text) {
      deliver_text(slot, std::move(event), end);
    } else {
      deliver(std::move(event), end);
    }
  }
  return planned || failure;
}

bool LocalEngine::encode_batch(ModelSlot* slot, bool alone) {
  EncodeQueue& queue = *slot->queue;
  std::vector<EncodeEvent> events;
  const auto failure = attempt(slot, [&] {
    const int most = queue.batch_tokens();
    const bool whole = alone && budget_.time_share >= 1.0;
    const double ms = kTurnMs * budget_.time_share;
    const PackedTexts& batch = queue.plan(whole ? most : slot->encode_times.rows_within(ms, {}, 0, most, 1));
    CORTEX_CHECK(!batch.tokens.empty());
    const TimePoint begin = clock_.steady_now();
    reach("encode", batch.tokens);
    EncodeResult result;
    slot->loaded.encoder->encode(batch, &result);
    const TimePoint end = clock_.steady_now();
    current_.last_step = end;
    const StepSize size{.rows = static_cast<int>(batch.tokens.size())};
    slot->encode_times.observe(size, milliseconds_between(begin, end));
    note_step(*slot, StepKind::encode, size, milliseconds_between(begin, end));
    for (const RequestId id : queue.planned()) {
      Encoding& encoding = encodings_.at(id);
      if (!encoding.started) encoding.started = begin;
      encoding.compute_ms += milliseconds_between(begin, end);
    }
    events = queue.commit(result);
  });
  if (failure) fail_step(slot, *failure);
  for (EncodeEvent& event : events) deliver(std::move(event));
  return true;
}

void LocalEngine::note_step(const ModelSlot& slot, StepKind kind, const StepSize& size, double ms) {
  ++current_.steps;
  current_.step_counts.observe(kind, ms / 1e3, size.rows);
  const auto model = static_cast<std::size_t>(&slot - models_.data());
  drift_.observe({.model = model, .load = slot.loads}, size, ms, now_ms() / 1e3);
}

template <typename Work>
std::optional<Error> LocalEngine::attempt(ModelSlot* slot, const Work& work) {
  try {
    work();
  } catch (...) {
    ++slot->consecutive_failures;
    Error error = caught_error();
    log_failure("a step failed", error);
    return error;
  }
  slot->consecutive_failures = 0;
  return std::nullopt;
}

// Allocates nothing, but for a model that failed.
void LocalEngine::fail_step(ModelSlot* slot, const Error& error) {
  if (error.code() == ErrorCode::model_failed) return fail_model(slot, error);
  const std::span<const RequestId> planned = slot->fail_step();
  for (const RequestId id : planned) end(id, error);
  // What can't even be planned would fail for ever.
  if (planned.empty()) end_all(*slot, error);
}

void LocalEngine::deliver(SequenceEvent event, TimePoint now) {
  const auto it = generations_.find(event.id);
  Generation& generation = it->second;
  const bool first_tokens = !event.event.tokens.empty() && !generation.first_token;
  if (first_tokens) generation.first_token = now;
  if (first_tokens || event.event.finish) {
    const TimePoint first = generation.first_token.value_or(now);
    GenerateTimings timings;
    timings.queue_ms = milliseconds_between(generation.submitted, *generation.started);
    timings.prefill_ms = milliseconds_between(*generation.started, first);
    timings.decode_ms = milliseconds_between(first, now);
    timings.prompt_tokens = generation.prompt_tokens;
    timings.cached_tokens = event.hit.memory_tokens + event.hit.disk_tokens;
    timings.cached_disk_tokens = event.hit.disk_tokens;
    timings.draft_tokens = event.draft_tokens;
    timings.draft_accepted = event.draft_accepted;
    timings.cache = event.hit.explanation;
    event.event.timings = timings;
  }
  if (!event.event.last()) return call(generation.sink, std::move(event.event));
  const auto node = generations_.extract(it);
  if (event.event.error) log_failure("a generation failed", *event.event.error, node.mapped().trace);
  call(node.mapped().sink, std::move(event.event));
}

void LocalEngine::deliver_text(ModelSlot* slot, SequenceEvent event, TimePoint now) {
  const RequestId id = event.id;
  try {
    auto over = slot->texts->take(std::move(event));
    if (!over) return;
    Encoding& encoding = encodings_.at(id);
    encoding.compute_ms = milliseconds_between(*encoding.started, now);
    deliver(std::move(*over));
  } catch (...) {
    end(id, caught_error());
  }
}

void LocalEngine::deliver(EncodeEvent event) {
  const auto node = encodings_.extract(event.id);
  const Encoding& encoding = node.mapped();
  if (event.reply.error) log_failure("an encoding failed", *event.reply.error, encoding.trace);
  event.reply.queue_ms = milliseconds_between(encoding.submitted, *encoding.started);
  event.reply.compute_ms = encoding.compute_ms;
  call(encoding.sink, std::move(event.reply));
}

}  // namespace cortex
