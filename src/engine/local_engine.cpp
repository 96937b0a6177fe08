#include "engine/local_engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/resident_memory.h"
#include "engine/failure.h"

namespace cortex {
namespace {

using std::chrono::nanoseconds;

constexpr auto kLoadingTurn = std::chrono::milliseconds(200);
constexpr auto kMemoryReadEvery = std::chrono::milliseconds(250);
constexpr auto kFailedTurn = std::chrono::milliseconds(10);  // a pause, so that a loop that fails does not spin
constexpr int kFailingAfterSteps = 3;
constexpr double kProgressStep = 0.01;
// A step's prompt rows, or a batch, while another model waits for its turn.
constexpr double kTurnMs = 40.0;
// Between two runs of blocks that go to disk while there is something to compute: reading one off the device takes
// milliseconds that somebody waits.
constexpr double kWriteEveryMs = 200.0;

// A sink that throws loses its event, nothing else.
template <typename Sink, typename Event>
void call(const Sink& sink, Event event) noexcept {
  try {
    sink(std::move(event));
  } catch (...) {
    log_failure("a sink threw", caught_error());
  }
}

void fail(const GenerateSink& sink, const Error& error) noexcept {
  GenerateEvent event;
  event.error = copy_of(error);
  call(sink, std::move(event));
}

void fail(const EncodeSink& sink, const Error& error) noexcept {
  EncodeReply reply;
  reply.error = copy_of(error);
  call(sink, std::move(reply));
}

KvDiskStatus disk_status_of(DiskStoreStatus store) {
  return {.state = std::move(store.state),
          .message = std::move(store.message),
          .scanning = store.scanning,
          .bytes = store.bytes,
          .limit_bytes = store.limit_bytes,
          .files = store.files,
          .written_bytes = store.written_bytes,
          .read_bytes = store.read_bytes,
          .rejected = std::move(store.rejected)};
}

}  // namespace

LocalEngine::LocalEngine(LocalEngineOptions options)
    : options_(std::move(options)),
      clock_(*options_.clock),
      loader_(options_.backend, {.threads = options_.threads, .exact = options_.exact}, !options_.kv_dir.empty(),
              options_.open_model, options_.open_backend) {
  // Made to be refused: what does not fit shows now, not when a model is there.
  BlockPool no_blocks(0);
  const Scheduler scheduler({options_.rows_per_step, options_.max_sequences}, &no_blocks);
  const EncodeQueue queue(options_.encode_batch_tokens);
  if (options_.idle_turn_ms < 1) {
    throw Error(ErrorCode::invalid_option, fmt::format("idle_turn_ms: {}; at least 1", options_.idle_turn_ms));
  }
  std::set<std::string> names;
  for (const ModelConfig& config : options_.models) {
    if (!names.insert(config.name).second) {
      throw Error(ErrorCode::invalid_option, fmt::format("model: \"{}\" is configured twice", config.name));
    }
    ModelSlot& slot = models_.emplace_back();
    slot.status.name = config.name;
    slot.status.state = ModelState::loading;
  }
  if (!options_.kv_dir.empty()) {
    store_ = std::make_unique<DiskStore>(real_file_system(), clock_,
                                         DiskStoreOptions{.directory = options_.kv_dir,
                                                          .limit_bytes = options_.kv_disk_bytes,
                                                          .write_bytes_per_day = options_.kv_write_bytes_per_day,
                                                          .free_bytes = options_.kv_disk_free_bytes});
  }
  current_.backend = options_.backend;
  publish();
  try {
    engine_thread_ = std::thread([this] { run(); });
    loader_thread_ = std::thread([this] { load_models(); });
  } catch (const std::exception& error) {
    stop();
    throw Error(ErrorCode::engine_unavailable, fmt::format("the engine's threads can't start: {}", error.what()));
  }
}

LocalEngine::~LocalEngine() { stop(); }

void LocalEngine::stop() {
  stopping_ = true;
  inbox_.close();
  if (engine_thread_.joinable()) engine_thread_.join();
  if (loader_thread_.joinable()) loader_thread_.join();
}

void LocalEngine::generate(GenerateRequest request, GenerateSink sink) {
  Generation generation;
  generation.submitted = clock_.steady_now();
  if (request.timeout) generation.deadline = generation.submitted + *request.timeout;
  generation.prompt_tokens = static_cast<int>(request.prompt.size());
  generation.trace = request.trace;
  generation.request = std::move(request);
  generation.sink = std::move(sink);
  inbox_.send(std::move(generation));
}

void LocalEngine::encode(EncodeRequest request, EncodeSink sink) {
  Encoding encoding;
  encoding.submitted = clock_.steady_now();
  if (request.timeout) encoding.deadline = encoding.submitted + *request.timeout;
  encoding.trace = request.trace;
  encoding.request = std::move(request);
  encoding.sink = std::move(sink);
  inbox_.send(std::move(encoding));
}

void LocalEngine::cancel(RequestId id) { inbox_.send(Cancel{id}); }

EngineStatus LocalEngine::status() const {
  std::lock_guard lock(status_mutex_);
  return status_;
}

void LocalEngine::load_models() {
  try {
    for (std::size_t i = 0; i < options_.models.size() && !stopping_; ++i) load(i);
  } catch (...) {  // no memory for a message to the engine thread
    loader_failed_ = true;
  }
}

void LocalEngine::load(std::size_t model) {
  double told = 0.0;
  const auto progress = [&](double fraction) {
    if (stopping_) throw shutting_down_;
    if (fraction < told + kProgressStep) return;
    told = fraction;
    inbox_.send(Progress{model, fraction});
  };
  Loaded loaded{model, {}};
  try {
    loaded.outcome = loader_.load(options_.models[model], progress);
  } catch (...) {
    loaded.outcome = caught_error();
  }
  inbox_.send(std::move(loaded));
}

void LocalEngine::run() {
  bool busy = false;
  while (!stopping_) {
    try {
      turn(&busy);
    } catch (...) {
      fail_turn(caught_error());
      std::this_thread::sleep_for(kFailedTurn);
    }
  }
  shut_down();
}

void LocalEngine::turn(bool* busy) {
  drain_inbox(std::exchange(*busy, true) ? nanoseconds(0) : patience());
  if (loader_failed_.exchange(false)) fail_loading();
  end_late();
  *busy = compute();
  if (!*busy || now_ms() - wrote_ms_ >= kWriteEveryMs) *busy = write_blocks() || *busy;
  if (!*busy) *busy = std::ranges::any_of(models_, &ModelSlot::prepare_blocks);
  publish();
  if (std::exchange(failed_turns_, 0) > 0) publish();
}

void LocalEngine::fail_turn(const Error& error) noexcept {
  ++failed_turns_;
  log_failure("a turn of the engine failed", error);
  try {
    for (ModelSlot& slot : models_) {
      if (slot.in_step()) fail_step(&slot, error);
      if (slot.status.state == ModelState::failed) end_all(slot, Error(ErrorCode::model_failed, "out of memory"));
    }
    publish();
  } catch (...) {
    log_failure("the failed turn", caught_error());
  }
}

void LocalEngine::drain_inbox(nanoseconds patience) {
  auto command = patience.count() > 0 ? inbox_.receive_for(patience) : inbox_.try_receive();
  while (command) {
    std::visit([this](auto&& value) { handle(std::forward<decltype(value)>(value)); }, std::move(*command));
    command = inbox_.try_receive();
  }
}

void LocalEngine::handle(Generation generation) { accept(std::move(generation), &generations_); }

void LocalEngine::handle(Encoding encoding) { accept(std::move(encoding), &encodings_); }

void LocalEngine::handle(Cancel cancel) { end(cancel.id, Error(ErrorCode::cancelled, "the request was cancelled")); }

void LocalEngine::handle(Progress progress) { models_[progress.model].status.progress = progress.fraction; }

void LocalEngine::handle(Loaded loaded) {
  ModelSlot& slot = models_[loaded.model];
  try {
    if (const auto* error = std::get_if<Error>(&loaded.outcome)) throw *error;
    slot.install(std::move(std::get<LoadedModel>(loaded.outcome)), options_, store_.get(),
                 [this, model = loaded.model](DiskTier::Part part) { inbox_.send(ReadPart{model, std::move(part)}); });
  } catch (...) {
    fail_model(&slot, caught_error().message());
  }
  for (const RequestId id : std::exchange(slot.held, {})) start(id);
}

void LocalEngine::handle(const ReadPart& read) {
  ModelSlot& slot = models_[read.model];
  if (!slot.tier) return;  // the model failed meanwhile
  const auto restored = slot.tier->take(read.part);
  if (restored) slot.scheduler->restored(restored->restore, restored->blocks);
}

void LocalEngine::fail_loading() {
  drain_inbox(nanoseconds(0));  // what it could still tell came before
  for (ModelSlot& slot : models_) {
    if (slot.status.state == ModelState::loading) fail_model(&slot, "out of memory");
  }
}

template <typename Kind>
void LocalEngine::accept(Kind job, std::map<RequestId, Kind>* jobs) {
  const RequestId id = job.request.id;
  bool loading = false;
  try {
    const auto slot = std::ranges::find(models_, job.request.model, [](const ModelSlot& s) { return s.status.name; });
    if (slot == models_.end()) {
      throw Error(ErrorCode::model_not_found, fmt::format("model: there is no \"{}\"", job.request.model), "model");
    }
    if (generations_.contains(id) || encodings_.contains(id)) {
      throw Error(ErrorCode::internal_error, fmt::format("request id {} is in use", id));
    }
    job.model = static_cast<std::size_t>(slot - models_.begin());
    loading = slot->status.state == ModelState::loading;
    if (loading) slot->held.push_back(id);
    jobs->emplace(id, std::move(job));  // takes the job, or throws and leaves it
  } catch (...) {
    return fail(job.sink, caught_error());
  }
  if (!loading) start(id);
}

void LocalEngine::start(RequestId id) {
  try {
    if (const auto it = generations_.find(id); it != generations_.end()) start(&it->second);
    if (const auto it = encodings_.find(id); it != encodings_.end()) start(&it->second);
  } catch (...) {
    end(id, caught_error());
  }
}

void LocalEngine::start(Generation* generation) {
  ModelSlot& slot = models_[generation->model];
  slot.require_ready();
  if (!slot.scheduler) {
    throw Error(ErrorCode::model_not_capable, fmt::format("model {} does not generate", slot.status.name), "model");
  }
  check_request(generation->request, slot.loaded.limits);
  slot.scheduler->add(std::move(generation->request));
  generation->held = false;
}

void LocalEngine::start(Encoding* encoding) {
  ModelSlot& slot = models_[encoding->model];
  slot.require_ready();
  check_request(encoding->request, slot.loaded.limits);
  if (slot.texts) {
    slot.texts->add(std::move(encoding->request));
  } else {
    slot.queue->add(std::move(encoding->request));
  }
  encoding->held = false;
}

void LocalEngine::end(RequestId id, const Error& error) {
  const auto end_in = [&](auto* jobs, std::string_view what) {
    const auto node = jobs->extract(id);
    if (!node) return;
    if (!node.mapped().held) models_[node.mapped().model].cancel(id);
    log_failure(what, error, node.mapped().trace);
    fail(node.mapped().sink, error);
  };
  end_in(&generations_, "a generation ended");
  end_in(&encodings_, "an encoding ended");
}

void LocalEngine::end_all(const ModelSlot& slot, const Error& error) {
  const auto end_each = [&](const auto& jobs) {
    for (auto it = jobs.begin(); it != jobs.end();) {
      const auto& [id, job] = *it++;
      if (&models_[job.model] == &slot) end(id, error);
    }
  };
  end_each(generations_);
  end_each(encodings_);
}

void LocalEngine::fail_model(ModelSlot* slot, const std::string& failure) {
  slot->fail(failure);
  const Error error = slot->failure();
  log_error(error.message());
  end_all(*slot, error);
}

void LocalEngine::end_late() {
  const TimePoint now = clock_.steady_now();
  std::vector<RequestId> late;
  const auto collect = [&](const auto& jobs) {
    for (const auto& [id, job] : jobs) {
      if (job.deadline && now >= *job.deadline) late.push_back(id);
    }
  };
  collect(generations_);
  collect(encodings_);
  for (const RequestId id : late) end(id, Error(ErrorCode::deadline_exceeded, "the request's deadline has passed"));
}

nanoseconds LocalEngine::patience() const {
  const bool loading =
      std::ranges::any_of(models_, [](const ModelSlot& slot) { return slot.status.state == ModelState::loading; });
  const TimePoint now = clock_.steady_now();
  const std::chrono::milliseconds idle_turn(options_.idle_turn_ms);
  TimePoint until = now + (loading ? std::min(kLoadingTurn, idle_turn) : idle_turn);
  const auto shorten = [&](const auto& jobs) {
    for (const auto& [id, job] : jobs) {
      if (job.deadline) until = std::min(until, *job.deadline);
    }
  };
  shorten(generations_);
  shorten(encodings_);
  return std::max<nanoseconds>(until - now, nanoseconds(0));
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

double LocalEngine::now_ms() const {
  return std::chrono::duration<double, std::milli>(clock_.steady_now().time_since_epoch()).count();
}

bool LocalEngine::write_blocks() {
  wrote_ms_ = now_ms();
  return std::ranges::any_of(models_, [](ModelSlot& slot) { return slot.tier && slot.tier->write_next(); });
}

bool LocalEngine::step(ModelSlot* slot, bool alone) {
  Scheduler& scheduler = *slot->scheduler;
  bool planned = true;
  TimePoint end;
  std::vector<SequenceEvent> events;
  const auto failure = attempt(slot, [&] {
    StepTime budget{.now_ms = now_ms()};
    if (!alone) budget.alone_ms = kTurnMs;
    const StepPlan& plan = scheduler.plan(budget);
    planned = !plan.slices.empty();
    if (!planned) return;
    const TimePoint begin = clock_.steady_now();
    for (const RequestId id : scheduler.planned()) {
      const auto generation = generations_.find(id);
      auto& started = generation != generations_.end() ? generation->second.started : encodings_.at(id).started;
      if (!started) started = begin;
    }
    if (options_.before_step) options_.before_step();
    StepResult result;
    slot->loaded.decoder->submit(plan);
    slot->loaded.decoder->collect(&result);
    current_.last_step = end = clock_.steady_now();
    ++current_.steps;
    scheduler.measured(milliseconds_between(begin, end));
    events = scheduler.commit(result);
  });
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
    const PackedTexts& batch = queue.plan(alone ? most : slot->encode_times.rows_within(kTurnMs, {}, 0, most, 1));
    CORTEX_CHECK(!batch.tokens.empty());
    const TimePoint begin = clock_.steady_now();
    if (options_.before_step) options_.before_step();
    EncodeResult result;
    slot->loaded.encoder->encode(batch, &result);
    const TimePoint end = clock_.steady_now();
    current_.last_step = end;
    ++current_.steps;
    slot->encode_times.observe({.rows = static_cast<int>(batch.tokens.size())}, milliseconds_between(begin, end));
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
  if (error.code() == ErrorCode::model_failed) return fail_model(slot, error.message());
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

void LocalEngine::publish() {
  const TimePoint now = clock_.steady_now();
  EngineStatus& status = current_;
  status.last_tick = now;
  status.running = status.waiting = status.kv_blocks = status.kv_blocks_used = 0;
  status.consecutive_failures = failed_turns_;
  status.models.clear();
  for (ModelSlot& slot : models_) {
    status.consecutive_failures = std::max(status.consecutive_failures, slot.consecutive_failures);
    status.running += slot.entered();
    if (slot.scheduler) slot.status.kv = slot.scheduler->kv_status();
    if (slot.pool) {
      status.kv_blocks += slot.pool->total_blocks();
      status.kv_blocks_used += slot.pool->used_blocks();
    }
    if (slot.loaded.decoder) slot.status.bytes = slot.loaded.decoder->memory_bytes();
    if (slot.loaded.encoder) slot.status.bytes = slot.loaded.encoder->memory_bytes();
    if (status.device.empty() && slot.status.state == ModelState::ready) {
      status.backend = slot.status.backend;
      status.device = slot.status.device;
    }
    status.models.push_back(slot.status);
  }
  if (store_) status.kv_disk = disk_status_of(store_->status());
  status.waiting = static_cast<int>(generations_.size() + encodings_.size()) - status.running;
  status.state = status.consecutive_failures >= kFailingAfterSteps ? EngineState::failing
                 : generations_.empty() && encodings_.empty()      ? EngineState::idle
                                                                   : EngineState::running;
  if (now - memory_read_ >= kMemoryReadEvery || status.memory_bytes == 0) {
    status.memory_bytes = resident_bytes();
    memory_read_ = now;
  }
  std::lock_guard lock(status_mutex_);
  status_ = current_;
}

void LocalEngine::shut_down() {
  while (auto command = inbox_.try_receive()) {
    if (auto* generation = std::get_if<Generation>(&*command)) fail(generation->sink, shutting_down_);
    if (auto* encoding = std::get_if<Encoding>(&*command)) fail(encoding->sink, shutting_down_);
  }
  for (const auto& [id, generation] : generations_) fail(generation.sink, shutting_down_);
  for (const auto& [id, encoding] : encodings_) fail(encoding.sink, shutting_down_);
  generations_.clear();
  encodings_.clear();
  while (write_blocks()) {
  }
  models_.clear();
}

}  // namespace cortex
