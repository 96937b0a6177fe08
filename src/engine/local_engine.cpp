#include "engine/local_engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/resident_memory.h"
#include "engine/failure.h"
#include "engine/sink_call.h"

namespace cortex {
namespace {

using std::chrono::nanoseconds;

constexpr auto kLoadingTurn = std::chrono::milliseconds(200);
constexpr auto kMemoryReadEvery = std::chrono::milliseconds(250);
constexpr auto kFailedTurn = std::chrono::milliseconds(10);  // a pause, so that a loop that fails does not spin
constexpr int kFailingAfterSteps = 3;
// Between two runs of blocks that go to disk while there is something to compute: reading one off the device takes
// milliseconds that somebody waits.
constexpr double kWriteEveryMs = 200.0;

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
              options_.open_model, options_.open_backend),
      grammars_(&clock_, grammar_options()),
      ledger_(options_.memory_bytes) {
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
    slot.status.pinned = config.pinned;
    slot.failpoint = options_.failpoint;
    if (config.load_at_start) queue_load(models_.size() - 1, false);
  }
  if (!options_.kv_dir.empty()) {
    store_ = std::make_unique<DiskStore>(real_file_system(), clock_,
                                         DiskStoreOptions{.directory = options_.kv_dir,
                                                          .limit_bytes = options_.kv_disk_bytes,
                                                          .write_bytes_per_day = options_.kv_write_bytes_per_day,
                                                          .free_bytes = options_.kv_disk_free_bytes,
                                                          .failpoint = write_failpoint()});
  }
  current_.backend = options_.backend;
  publish();
  try {
    loader_thread_.emplace(&loader_, LoadAnswers{[this](std::size_t model, double fraction) {
                                                   reach("loading", {});
                                                   inbox_.send(Progress{model, fraction});
                                                 },
                                                 [this](std::size_t model, LoadOutcome outcome) {
                                                   inbox_.send(Loaded{model, std::move(outcome)});
                                                 }});
    engine_thread_ = std::thread([this] { run(); });
  } catch (const std::exception& error) {
    stop();
    throw Error(ErrorCode::engine_unavailable, fmt::format("the engine's threads can't start: {}", error.what()));
  }
}

LocalEngine::~LocalEngine() { stop(); }

std::function<void(std::string_view)> LocalEngine::write_failpoint() const {
  if (!options_.failpoint) return {};
  return [this](std::string_view) { reach("write", {}); };
}

GrammarCompilerOptions LocalEngine::grammar_options() {
  return {.wake = [this] { inbox_.send(GrammarReady{}); }, .before_build = [this] { reach("grammar", {}); }};
}

void LocalEngine::reach(std::string_view phase, std::span<const TokenId> tokens) const {
  if (options_.failpoint) options_.failpoint(phase, tokens);
}

void LocalEngine::stop() {
  stopping_ = true;
  inbox_.close();
  if (engine_thread_.joinable()) engine_thread_.join();
  loader_thread_.reset();
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

void LocalEngine::set_budget(const StepBudget& budget) { inbox_.send(Told{budget, clock_.steady_now()}); }

void LocalEngine::load_model(const std::string& model, ModelSink sink) {
  Change change{model, true, std::move(sink)};
  send(std::move(change));
}

void LocalEngine::unload_model(const std::string& model, ModelSink sink) {
  Change change{model, false, std::move(sink)};
  send(std::move(change));
}

void LocalEngine::send(Change change) {
  Command command(std::move(change));
  if (!inbox_.send(std::move(command))) call(std::get<Change>(command).sink, std::optional(shutting_down_));
}

EngineStatus LocalEngine::status() const {
  std::lock_guard lock(status_mutex_);
  return status_;
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
  if (loader_thread_->lost_an_answer()) fail_loading();
  if (told_) budget_ = in_force(told_->budget, clock_.steady_now() - told_->at);
  end_late();
  start_compiled();
  const bool gives_back = tend_models();
  *busy = clock_.steady_now() >= resumes_ && compute_within_budget();
  if (budget_.background || budget_.evicts) {
    if (!*busy || now_ms() - wrote_ms_ >= kWriteEveryMs) *busy = write_blocks() || *busy;
  }
  if (budget_.background && !*busy) *busy = std::ranges::any_of(models_, &ModelSlot::prepare_blocks);
  *busy = *busy || gives_back;
  if (clock_.steady_now() < resumes_) *busy = false;
  publish();
  if (std::exchange(failed_turns_, 0) > 0) publish();
  answer();
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

void LocalEngine::handle(Told told) { told_ = told; }

void LocalEngine::handle(const ReadPart& read) {
  ModelSlot& slot = models_[read.model];
  if (!slot.tier || slot.loads != read.load) return;  // the model is gone, or came anew
  const auto restored = slot.tier->take(read.part);
  if (restored) slot.scheduler->restored(restored->restore, restored->blocks);
}

template <typename Kind>
void LocalEngine::accept(Kind job, std::map<RequestId, Kind>* jobs) {
  const RequestId id = job.request.id;
  std::size_t model = 0;
  bool loading = false;
  try {
    const auto slot = std::ranges::find(models_, job.request.model, [](const ModelSlot& s) { return s.status.name; });
    if (slot == models_.end()) {
      throw Error(ErrorCode::model_not_found, fmt::format("model: there is no \"{}\"", job.request.model), "model");
    }
    if (generations_.contains(id) || encodings_.contains(id)) {
      throw Error(ErrorCode::internal_error, fmt::format("request id {} is in use", id));
    }
    job.model = model = static_cast<std::size_t>(slot - models_.begin());
    const ModelState state = slot->status.state;
    loading = state == ModelState::loading || state == ModelState::unloaded;
    if (loading) slot->held.push_back(id);
    jobs->emplace(id, std::move(job));  // takes the job, or throws and leaves it
  } catch (...) {
    return fail(job.sink, caught_error());
  }
  if (!loading) return start(id);
  try {
    queue_load(model, true);
  } catch (...) {
    end(id, caught_error());
  }
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
  const GenerateRequest& request = generation->request;
  check_request(request, slot.loaded.limits);
  if (!request.grammar) return add(generation, nullptr);
  if (slot.loaded.plan.no_grammars) {
    const GrammarNeeds needs = grammar_needs(slot.loaded.limits.vocabulary);
    throw Error(
        ErrorCode::request_cannot_fit,
        fmt::format("the grammar: --memory-budget has no room for grammars beside model {}, which take {:.1f} MiB",
                    slot.status.name, static_cast<double>(needs.total_bytes()) / (1 << 20)));
  }
  grammars_.compile(request.id, generation->model, *request.grammar);
}

void LocalEngine::start_compiled() {
  for (const auto& [id, outcome] : grammars_.take_ready()) {
    try {
      if (const auto* refusal = std::get_if<Error>(&outcome)) throw *refusal;
      Generation& generation = generations_.at(id);
      const GenerateRequest& request = generation.request;
      std::vector<TokenId> ends = request.grammar->vocabulary->ends;
      ends.insert(ends.end(), request.stop_ids.begin(), request.stop_ids.end());
      const ModelSlot& slot = models_[generation.model];
      add(&generation, std::make_unique<GrammarGuide>(std::get<CompiledGrammar>(outcome), slot.loaded.limits.vocabulary,
                                                      std::move(ends), grammars_.mask_costs(generation.model)));
    } catch (...) {
      end(id, caught_error());
    }
  }
}

void LocalEngine::add(Generation* generation, std::unique_ptr<TokenGuide> guide) {
  models_[generation->model].scheduler->add(std::move(generation->request), std::move(guide));
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
    grammars_.forget(id);
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
  if (now < resumes_) until = std::min(until, resumes_);
  const auto shorten = [&](const auto& jobs) {
    for (const auto& [id, job] : jobs) {
      if (job.deadline) until = std::min(until, *job.deadline);
    }
  };
  shorten(generations_);
  shorten(encodings_);
  if (const auto due = grammars_.due()) until = std::min(until, *due);
  return std::max<nanoseconds>(until - now, nanoseconds(0));
}

double LocalEngine::now_ms() const {
  return std::chrono::duration<double, std::milli>(clock_.steady_now().time_since_epoch()).count();
}

bool LocalEngine::write_blocks() {
  wrote_ms_ = now_ms();
  return std::ranges::any_of(models_, [](ModelSlot& slot) { return slot.tier && slot.tier->write_next(); });
}

void LocalEngine::publish() {
  const TimePoint now = clock_.steady_now();
  EngineStatus& status = current_;
  status.last_tick = now;
  status.running = status.running_encodings = status.kv_blocks = status.kv_blocks_used = 0;
  status.consecutive_failures = failed_turns_;
  status.models.clear();
  for (ModelSlot& slot : models_) {
    status.consecutive_failures = std::max(status.consecutive_failures, slot.consecutive_failures);
    status.running += slot.entered();
    status.running_encodings += slot.entered_encodings();
    if (slot.scheduler) {
      slot.status.kv = slot.scheduler->kv_status();
      slot.status.speculation = slot.scheduler->speculation_status();
    }
    if (slot.pool) {
      status.kv_blocks += slot.pool->total_blocks();
      status.kv_blocks_used += slot.pool->used_blocks();
    }
    slot.status.grammars = grammars_.status(status.models.size());
    slot.status.idle_s = slot.idle_since ? std::chrono::duration<double>(now - *slot.idle_since).count() : 0.0;
    if (slot.loaded.decoder) {
      slot.status.bytes = slot.loaded.decoder->memory_bytes() + grammars_.bytes(status.models.size());
    }
    if (slot.loaded.encoder) slot.status.bytes = slot.loaded.encoder->memory_bytes();
    if (status.device.empty() && slot.status.state == ModelState::ready) {
      status.backend = slot.status.backend;
      status.device = slot.status.device;
    }
    status.models.push_back(slot.status);
  }
  status.level = budget_.level;
  status.budget_bytes = options_.memory_bytes.value_or(0);
  if (store_) status.kv_disk = disk_status_of(store_->status());
  status.waiting = static_cast<int>(generations_.size() + encodings_.size()) - status.running;
  status.waiting_encodings = static_cast<int>(encodings_.size()) - status.running_encodings;
  status.state = status.consecutive_failures >= kFailingAfterSteps ? EngineState::failing
                 : generations_.empty() && encodings_.empty()      ? EngineState::idle
                                                                   : EngineState::running;
  if (now - memory_read_ >= kMemoryReadEvery || status.memory_bytes == 0) {
    status.memory_bytes = resident_bytes();
    status.device_bytes = 0;
    for (const ModelSlot& slot : models_) {
      status.device_bytes = std::max<std::uint64_t>(status.device_bytes, slot.device_bytes());
    }
    status.step_drift = drift_.ratio(now_ms() / 1e3);
    memory_read_ = now;
  }
  std::lock_guard lock(status_mutex_);
  status_ = current_;
}

void LocalEngine::shut_down() {
  while (auto command = inbox_.try_receive()) {
    if (auto* generation = std::get_if<Generation>(&*command)) fail(generation->sink, shutting_down_);
    if (auto* encoding = std::get_if<Encoding>(&*command)) fail(encoding->sink, shutting_down_);
    if (auto* change = std::get_if<Change>(&*command)) call(change->sink, std::optional(shutting_down_));
  }
  for (ModelSlot& slot : models_) tell(&slot, shutting_down_);
  answer();
  for (const auto& [id, generation] : generations_) fail(generation.sink, shutting_down_);
  for (const auto& [id, encoding] : encodings_) fail(encoding.sink, shutting_down_);
  generations_.clear();
  encodings_.clear();
  while (write_blocks()) {
  }
  models_.clear();
}

}  // namespace cortex
