#include "worker/worker_client.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>

#include "base/log.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

// The worker ends what is late; only when it does not is it ended here.
constexpr auto kDeadlineGrace = 1s;
constexpr std::int64_t kTurnsBeforeStall = 4;
// Until what a model had is back with the system.
constexpr auto kSettling = 2s;
constexpr const char* kShuttingDown = "the server is shutting down";

// One part of a thread's work; none may end the process.
template <typename Work>
void attempt(Work work) {
  try {
    work();
  } catch (const std::exception& error) {
    log_error(fmt::format("the worker's client: {}", error.what()));
  }
}

template <typename Sink, typename Event>
void call(const Sink& sink, Event event) {
  try {
    sink(std::move(event));
  } catch (const std::exception& error) {
    log_error(fmt::format("a sink threw: {}", error.what()));
  }
}

void fail(const std::variant<GenerateSink, EncodeSink>& sink, const Error& error) {
  if (const auto* generate = std::get_if<GenerateSink>(&sink)) {
    GenerateEvent event;
    event.error = error;
    call(*generate, std::move(event));
  } else {
    EncodeReply reply;
    reply.error = error;
    call(std::get<EncodeSink>(sink), std::move(reply));
  }
}

Error unavailable(const std::string& why) {
  return {ErrorCode::engine_unavailable, "the engine is unavailable: " + why};
}

std::optional<steady_clock::time_point> deadline_of(std::optional<std::chrono::milliseconds> timeout) {
  if (!timeout) return std::nullopt;
  return steady_clock::now() + *timeout;
}

// An idle engine shows a few signs of life before its silence counts.
WorkerClientOptions with_turns_in_time(WorkerClientOptions options) {
  const auto often = std::max<std::int64_t>(options.supervisor.stall_after.count() / kTurnsBeforeStall, 1);
  options.engine.idle_turn_ms = static_cast<int>(std::min<std::int64_t>(options.engine.idle_turn_ms, often));
  return options;
}

// What a worker that starts makes of them.
void forget_models(const EngineOptions& options, EngineStatus* status) {
  status->models.clear();
  for (const ModelConfig& config : options.models) {
    ModelStatus& model = status->models.emplace_back();
    model.name = config.name;
    model.state = config.load_at_start ? ModelState::loading : ModelState::unloaded;
    model.pinned = config.pinned;
  }
}

}  // namespace

WorkerClient::Connection::Connection(int number, Descriptor descriptor, const EngineOptions& options,
                                     const std::function<void(FrameSocket*)>& read)
    : number(number), socket(std::move(descriptor)) {
  socket.send(HelloFrame{kWireVersion, options});
  reader = std::thread([read, this] { read(&socket); });
}

WorkerClient::Connection::~Connection() {
  socket.shut_down();
  reader.join();
}

WorkerClient::WorkerClient(WorkerClientOptions options) : options_(with_turns_in_time(std::move(options))) {
  forget_models(options_.engine, &status_);
  status_.backend = options_.engine.backend;
  status_.own_process = true;
  status_.last_tick = steady_clock::now();
  SupervisorEvents events;
  events.started = [this](Descriptor descriptor) { inbox_.send(Started{std::move(descriptor)}); };
  events.stalled = [this] { inbox_.send(Stalled{}); };
  events.died = [this](const std::string&) { inbox_.send(Died{}); };
  events.gave_up = [this] { inbox_.send(GaveUp{}); };
  supervisor_ = std::make_unique<Supervisor>(options_.supervisor, std::move(events));
  thread_ = std::thread([this] { run(); });
}

WorkerClient::~WorkerClient() {
  supervisor_->stop();
  inbox_.close();
  thread_.join();
  supervisor_.reset();
}

void WorkerClient::generate(GenerateRequest request, GenerateSink sink) { submit(std::move(request), std::move(sink)); }

void WorkerClient::encode(EncodeRequest request, EncodeSink sink) { submit(std::move(request), std::move(sink)); }

template <typename Body, typename Sink>
void WorkerClient::submit(Body body, Sink sink) {
  Request request;
  request.id = body.id;
  request.deadline = deadline_of(body.timeout);
  request.fingerprint = fingerprint_of(body);
  request.request = std::move(body);
  request.sink = std::move(sink);
  Command command(std::move(request));
  if (!inbox_.send(std::move(command))) fail(std::get<Request>(command).sink, unavailable(kShuttingDown));
}

void WorkerClient::cancel(RequestId id) { inbox_.send(Cancel{id}); }

void WorkerClient::set_budget(const StepBudget& budget) { inbox_.send(Told{budget, steady_clock::now()}); }

void WorkerClient::load_model(const std::string& model, ModelSink sink) { submit({model, true, std::move(sink)}); }

void WorkerClient::unload_model(const std::string& model, ModelSink sink) { submit({model, false, std::move(sink)}); }

void WorkerClient::submit(Change change) {
  Command command(std::move(change));
  if (!inbox_.send(std::move(command))) call(std::get<Change>(command).sink, std::optional(unavailable(kShuttingDown)));
}

EngineStatus WorkerClient::status() const {
  std::lock_guard lock(status_mutex_);
  return status_;
}

pid_t WorkerClient::worker_pid() const { return supervisor_->pid(); }

void WorkerClient::read(int connection, FrameSocket* socket) {
  attempt([&] {
    while (auto frame = socket->receive()) {
      if (std::holds_alternative<HeartbeatFrame>(*frame)) supervisor_->beat();
      inbox_.send(Received{connection, std::move(*frame)});
    }
  });
  socket->shut_down();
  attempt([&] { inbox_.send(Closed{connection}); });
}

void WorkerClient::run() {
  while (!inbox_.closed()) attempt([this] { turn(); });
  attempt([this] {
    if (!connection_) return;
    connection_->socket.send(ShutdownFrame{});
    connection_->socket.flush(100ms);
  });
  connection_.reset();
  attempt([this] { end_all(); });
}

void WorkerClient::turn() {
  auto command = inbox_.receive_for(patience());
  while (command) {
    std::visit([this](auto&& value) { handle(std::forward<decltype(value)>(value)); }, std::move(*command));
    command = inbox_.try_receive();
  }
  end_late();
  replace_if_it_keeps_memory();
  send_changes();
  dispatch();
  update([this](EngineStatus* status) { status->waiting = worker_waiting_ + static_cast<int>(queue_.size()); });
}

void WorkerClient::end_all() {
  while (auto command = inbox_.try_receive()) {
    if (auto* request = std::get_if<Request>(&*command)) fail(request->sink, unavailable(kShuttingDown));
    if (auto* change = std::get_if<Change>(&*command)) call(change->sink, std::optional(unavailable(kShuttingDown)));
  }
  for (const auto& [id, change] : changes_) call(change.sink, std::optional(unavailable(kShuttingDown)));
  for (const auto& [id, request] : requests_) fail(request.sink, unavailable(kShuttingDown));
}

void WorkerClient::handle(Request request) {
  const RequestId id = request.id;
  if (dead_) return fail(request.sink, unavailable("its process died too often"));
  if (requests_.contains(id)) {
    return fail(request.sink, Error(ErrorCode::internal_error, fmt::format("request id {} is in use", id)));
  }
  if (queue_.size() >= options_.max_queued) {
    return fail(request.sink, Error(ErrorCode::queue_full, fmt::format("{} requests wait already", queue_.size())));
  }
  requests_.emplace(id, std::move(request));
  queue_.push_back(id);
}

void WorkerClient::handle(Cancel cancel) {
  const auto it = requests_.find(cancel.id);
  if (it == requests_.end()) return;
  if (it->second.connection == 0) return end(cancel.id, Error(ErrorCode::cancelled, "the request was cancelled"));
  if (connection_ && connection_->number == it->second.connection) connection_->socket.send(CancelFrame{cancel.id});
}

void WorkerClient::handle(Started started) {
  const int number = ++connections_;
  try {
    connection_ = std::make_unique<Connection>(number, std::move(started.descriptor), start_options(),
                                               [this, number](FrameSocket* socket) { read(number, socket); });
    if (told_) connection_->socket.send(BudgetFrame{in_force(told_->budget, steady_clock::now() - told_->at)});
  } catch (const std::exception& error) {
    log_error(fmt::format("the worker can't be connected: {}", error.what()));
    handle(Closed{number});
  }
}

void WorkerClient::handle(Received received) {
  std::visit([&](auto&& frame) { take(std::forward<decltype(frame)>(frame), received.connection); },
             std::move(received.frame));
}

void WorkerClient::handle(Closed closed) {
  // Before any request hears of it, so that its client finds the truth.
  if (closed.connection == connections_ && ended_ < connections_) lose_worker(EngineState::restarting);
  std::vector<RequestId> lost;
  std::vector<Fingerprint> fingerprints;
  for (const auto& [id, request] : requests_) {
    if (request.connection != closed.connection) continue;
    lost.push_back(id);
    fingerprints.push_back(request.fingerprint);
  }
  quarantine_.died(fingerprints, steady_clock::now());
  for (const RequestId id : lost) end(id, unavailable("its process died"));
  end_changes(closed.connection, unavailable("its process died"));
  if (connection_ && connection_->number == closed.connection) connection_.reset();
}

void WorkerClient::handle(Stalled) {
  update([](EngineStatus* status) { status->state = EngineState::stalled; });
}

void WorkerClient::handle(Died) {
  lose_worker(EngineState::restarting);
  update([](EngineStatus* status) { ++status->restarts; });
}

EngineOptions WorkerClient::start_options() const {
  EngineOptions options = options_.engine;
  for (ModelConfig& model : options.models)
    model.load_at_start = model.load_at_start && !unloaded_.contains(model.name);
  return options;
}

void WorkerClient::lose_worker(EngineState state) {
  ended_ = connections_;
  worker_waiting_ = 0;
  first_bytes_.reset();
  emptied_.reset();
  had_models_ = false;
  update([&](EngineStatus* status) {
    status->state = state;
    status->running = status->kv_blocks_used = 0;
    status->memory_bytes = 0;
    forget_models(start_options(), status);
    status->device_bytes = 0;
    // What it counted; what lies on the disk stays.
    status->step_counts = {};
    status->guard_preempted = status->guard_cancelled = 0;
    status->kv_disk.written_bytes = status->kv_disk.read_bytes = 0;
    status->kv_disk.rejected.clear();
  });
}

void WorkerClient::handle(GaveUp) {
  dead_ = true;
  update([](EngineStatus* status) {
    status->state = EngineState::dead;
    for (ModelStatus& model : status->models) model.state = ModelState::unloaded;
  });
  for (const RequestId id : std::vector(queue_.begin(), queue_.end())) {
    end(id, unavailable("its process died too often"));
  }
  end_changes(0, unavailable("its process died too often"));
}

void WorkerClient::handle(Told told) {
  told_ = told;
  if (connection_) connection_->socket.send(BudgetFrame{told.budget});
}

void WorkerClient::handle(Change change) {
  if (dead_) return call(change.sink, std::optional(unavailable("its process died too often")));
  changes_.emplace(++changes_asked_, std::move(change));
}

void WorkerClient::send_changes() {
  if (!connection_ || connection_->number <= ended_) return;
  for (auto& [id, change] : changes_) {
    if (change.connection != 0) continue;
    const bool sent = change.loads ? connection_->socket.send(LoadModelFrame{id, change.model})
                                   : connection_->socket.send(UnloadModelFrame{id, change.model});
    if (!sent) return;  // a later turn tries again
    change.connection = connection_->number;
  }
}

void WorkerClient::end_changes(int connection, const Error& error) {
  for (auto it = changes_.begin(); it != changes_.end();) {
    const auto& [id, change] = *it;
    if (change.connection == connection) call(change.sink, std::optional(error));
    it = change.connection == connection ? changes_.erase(it) : std::next(it);
  }
}

void WorkerClient::take(GenerateEventFrame frame, int connection) {
  const auto it = requests_.find(frame.id);
  if (it == requests_.end() || it->second.connection != connection) return;
  const auto* sink = std::get_if<GenerateSink>(&it->second.sink);
  if (sink == nullptr) return;
  Request& request = it->second;
  request.answered = request.answered || !frame.event.tokens.empty();
  if (!frame.event.last()) return call(*sink, std::move(frame.event));
  // A reply that a stop string ends is cancelled too.
  const auto& error = frame.event.error;
  const bool served = !error || (error->code() == ErrorCode::cancelled && request.answered);
  if (served) quarantine_.survived(request.fingerprint);
  const auto node = requests_.extract(it);
  if (alone_ == frame.id) alone_.reset();
  call(std::get<GenerateSink>(node.mapped().sink), std::move(frame.event));
}

void WorkerClient::take(EncodeReplyFrame frame, int connection) {
  const auto it = requests_.find(frame.id);
  if (it == requests_.end() || it->second.connection != connection) return;
  if (!std::holds_alternative<EncodeSink>(it->second.sink)) return;
  if (!frame.reply.error) quarantine_.survived(it->second.fingerprint);
  const auto node = requests_.extract(it);
  if (alone_ == frame.id) alone_.reset();
  call(std::get<EncodeSink>(node.mapped().sink), std::move(frame.reply));
}

void WorkerClient::take(HeartbeatFrame frame, int connection) {
  if (connection <= ended_) return;
  worker_waiting_ = frame.status.waiting;
  note_models(frame.status);
  update([&](EngineStatus* status) {
    const int restarts = status->restarts;
    *status = std::move(frame.status);
    status->restarts = restarts;
    status->own_process = true;
  });
}

void WorkerClient::note_models(const EngineStatus& status) {
  if (!first_bytes_) first_bytes_ = status.memory_bytes;
  unloaded_.clear();
  bool empty = true;
  for (const ModelStatus& model : status.models) {
    if (model.state == ModelState::unloaded) unloaded_.insert(model.name);
    empty = empty && (model.state == ModelState::unloaded || model.state == ModelState::failed);
  }
  if (!empty) {
    had_models_ = true;
    emptied_.reset();
  } else if (had_models_ && !emptied_) {
    emptied_ = steady_clock::now();
  }
}

void WorkerClient::replace_if_it_keeps_memory() {
  if (!emptied_ || !first_bytes_ || !requests_.empty() || !changes_.empty() || !connection_) return;
  if (options_.supervisor.replace_above_bytes == 0 || steady_clock::now() - *emptied_ < kSettling) return;
  emptied_.reset();
  had_models_ = false;
  const std::uint64_t kept = status().memory_bytes - std::min(status().memory_bytes, *first_bytes_);
  if (kept <= options_.supervisor.replace_above_bytes) return;
  log_info(fmt::format("the worker keeps {} MiB of models that it has unloaded: it is replaced", kept >> 20));
  connection_->socket.send(ShutdownFrame{});
  lose_worker(EngineState::idle);  // requests that come now wait for the next one
  supervisor_->replace();
}

void WorkerClient::take(ModelDoneFrame frame, int connection) {
  const auto it = changes_.find(frame.id);
  if (it == changes_.end() || it->second.connection != connection) return;
  const auto node = changes_.extract(it);
  call(node.mapped().sink, std::move(frame.error));
}

template <typename Other>
void WorkerClient::take(const Other&, int connection) {
  log_error("the worker sent a frame that only the front sends");
  if (connection_ && connection_->number == connection) connection_->socket.shut_down();
}

void WorkerClient::dispatch() {
  // A dead process's connection stays until its last replies are read.
  while (connection_ && connection_->number > ended_ && !alone_ && !queue_.empty()) {
    Request& first = requests_.at(queue_.front());
    switch (quarantine_.verdict(first.fingerprint, steady_clock::now())) {
      case Quarantine::Verdict::refuse:
        end(first.id, Error(ErrorCode::request_quarantined,
                            "the engine died twice with this request; it is refused for ten minutes"));
        continue;
      case Quarantine::Verdict::run_alone:
        if (in_flight() > 0) return;
        alone_ = first.id;
        break;
      case Quarantine::Verdict::run:
        break;
    }
    send(&first);
  }
}

void WorkerClient::send(Request* request) {
  const RequestId id = request->id;
  const auto left = [&](auto& body) {
    if (!request->deadline) return;
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(*request->deadline - steady_clock::now());
    body.timeout = std::max(rest, 0ms);
  };
  try {
    bool sent = false;
    if (auto* generate = std::get_if<GenerateRequest>(&request->request)) {
      left(*generate);
      send_vocabulary(*generate);
      sent = connection_->socket.send(GenerateFrame{std::move(*generate)});
    } else {
      auto& encode = std::get<EncodeRequest>(request->request);
      left(encode);
      sent = connection_->socket.send(EncodeFrame{std::move(encode)});
    }
    if (!sent) throw unavailable("its process takes no more requests");
    std::erase(queue_, id);
    request->connection = connection_->number;
  } catch (const Error& error) {
    end(id, error);
  } catch (const std::exception& error) {
    end(id, Error(ErrorCode::internal_error, error.what()));
  }
}

void WorkerClient::send_vocabulary(const GenerateRequest& request) {
  if (!request.grammar) return;
  CORTEX_CHECK(request.grammar->vocabulary);
  if (connection_->vocabularies.contains(request.model)) return;
  const bool sent = connection_->socket.send(VocabularyFrame{request.model, *request.grammar->vocabulary});
  if (!sent) throw unavailable("its process takes no more requests");
  connection_->vocabularies.insert(request.model);
}

void WorkerClient::end(RequestId id, const Error& error) {
  const auto node = requests_.extract(id);
  std::erase(queue_, id);
  if (alone_ == id) alone_.reset();
  fail(node.mapped().sink, error);
}

void WorkerClient::end_late() {
  const TimePoint now = steady_clock::now();
  std::vector<RequestId> late;
  for (const auto& [id, request] : requests_) {
    if (!request.deadline) continue;
    if (now >= *request.deadline + (request.connection == 0 ? 0s : kDeadlineGrace)) late.push_back(id);
  }
  for (const RequestId id : late) {
    if (connection_ && requests_.at(id).connection == connection_->number) connection_->socket.send(CancelFrame{id});
    end(id, Error(ErrorCode::deadline_exceeded, "the request's deadline has passed"));
  }
}

nanoseconds WorkerClient::patience() const {
  const TimePoint now = steady_clock::now();
  TimePoint until = now + 10s;
  for (const auto& [id, request] : requests_) {
    if (request.deadline) until = std::min(until, *request.deadline + (request.connection == 0 ? 0s : kDeadlineGrace));
  }
  return std::max<nanoseconds>(until - now, nanoseconds(0));
}

void WorkerClient::update(const std::function<void(EngineStatus*)>& change) {
  std::lock_guard lock(status_mutex_);
  change(&status_);
}

}  // namespace cortex
