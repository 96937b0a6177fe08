#include "worker/worker_main.h"

#include <fmt/core.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <map>

#ifdef __linux__
#include <sys/prctl.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/log.h"
#include "engine/local_engine.h"
#include "worker/frame_socket.h"
#include "worker/test_fault.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;

constexpr int kExitInternal = 70;
constexpr auto kBusyHeartbeat = 50ms;
constexpr auto kIdleHeartbeat = 200ms;
constexpr auto kExitPatience = 600ms;
constexpr auto kFlushPatience = 200ms;

void prepare_process() {
#ifdef __linux__
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
#ifdef __GLIBC__
  // Large buffers are mapped one by one, so that an unloaded model's memory goes back.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
  // The supervisor has blocked the first three, so that none came before this line; whoever else starts a worker has
  // not. The end of the stream ends it.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_IGN);
}

// What requests say to the front. Any thread; never blocks. A request whose frame finds no room is cancelled and, once
// there is room, ends with an error.
class Outbox {
 public:
  explicit Outbox(FrameSocket* socket) : socket_(socket) {}

  void send(RequestId id, GenerateEvent event, Engine* engine) {
    const bool last = event.last();
    send(id, last, false, GenerateEventFrame{id, std::move(event)}, engine);
  }
  void send(RequestId id, EncodeReply reply, Engine* engine) {
    send(id, true, true, EncodeReplyFrame{id, std::move(reply)}, engine);
  }

  // Tells of the requests whose replies were lost, as far as there is room.
  void report_losses() {
    std::lock_guard lock(mutex_);
    std::erase_if(lost_, [&](const auto& entry) {
      const auto& [id, loss] = entry;
      return loss.over && socket_->send(loss.frame(id));
    });
  }

 private:
  struct Loss {
    bool encode = false;
    bool over = false;  // the engine has said its last word
    Error error;

    Frame frame(RequestId id) const {
      if (!encode) {
        GenerateEvent event;
        event.error = error;
        return GenerateEventFrame{id, std::move(event)};
      }
      EncodeReply reply;
      reply.error = error;
      return EncodeReplyFrame{id, std::move(reply)};
    }
  };

  void send(RequestId id, bool last, bool encode, const Frame& frame, Engine* engine) {
    {
      std::lock_guard lock(mutex_);
      if (const auto loss = lost_.find(id); loss != lost_.end()) {
        loss->second.over = last;
        return;
      }
      try {
        if (socket_->send(frame)) return;
        lost_.emplace(id, Loss{encode, last, Error(ErrorCode::internal_error, "the reply found no way to the front")});
      } catch (const Error& error) {
        lost_.emplace(id, Loss{encode, last, error});
      }
    }
    if (!last) engine->cancel(id);
  }

  FrameSocket* const socket_;
  std::mutex mutex_;
  std::map<RequestId, Loss> lost_;
};

// Calls `beat` until it is destroyed, at the pace that `beat` says.
class Pulse {
 public:
  explicit Pulse(std::function<std::chrono::milliseconds()> beat)
      : beat_(std::move(beat)), thread_([this] { run(); }) {}
  ~Pulse() {
    {
      std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!over_) {
      lock.unlock();
      auto pause = std::chrono::milliseconds(kIdleHeartbeat);
      try {
        pause = beat_();
      } catch (const std::exception& error) {
        log_error(fmt::format("no heartbeat: {}", error.what()));
      }
      lock.lock();
      changed_.wait_for(lock, pause, [&] { return over_; });
    }
  }

  const std::function<std::chrono::milliseconds()> beat_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

// Ends the process when it is not destroyed in time.
class ExitTimer {
 public:
  ExitTimer()
      : pulse_([first = true]() mutable -> std::chrono::milliseconds {
          if (!std::exchange(first, false)) std::_Exit(0);
          return kExitPatience;
        }) {}

 private:
  Pulse pulse_;
};

// Serves one engine until the stream ends.
class Server {
 public:
  Server(FrameSocket* socket, std::unique_ptr<Engine> engine, std::chrono::milliseconds idle_turn)
      : socket_(socket), idle_turn_(idle_turn), outbox_(socket), engine_(std::move(engine)), pulse_([this] {
          return beat();
        }) {}
  ~Server() { timer_.emplace(); }

  void serve() {
    while (auto frame = socket_->receive()) {
      if (std::holds_alternative<ShutdownFrame>(*frame)) return;
      std::visit([this](auto&& body) { handle(std::forward<decltype(body)>(body)); }, std::move(*frame));
    }
  }

 private:
  void handle(GenerateFrame frame) {
    const RequestId id = frame.request.id;
    if (frame.request.grammar) frame.request.grammar->vocabulary = vocabularies_[frame.request.model];
    engine_->generate(std::move(frame.request),
                      [this, id](GenerateEvent event) { outbox_.send(id, std::move(event), engine_.get()); });
  }
  void handle(EncodeFrame frame) {
    const RequestId id = frame.request.id;
    engine_->encode(std::move(frame.request),
                    [this, id](EncodeReply reply) { outbox_.send(id, std::move(reply), engine_.get()); });
  }
  void handle(VocabularyFrame frame) {
    vocabularies_[frame.model] = std::make_shared<const TokenTexts>(std::move(frame.texts));
  }
  void handle(CancelFrame frame) { engine_->cancel(frame.id); }
  void handle(const BudgetFrame& frame) {
    if (!ignores_budgets_) engine_->set_budget(frame.budget);
  }
  void handle(const LoadModelFrame& frame) { engine_->load_model(frame.model, answer(frame.id)); }
  void handle(const UnloadModelFrame& frame) { engine_->unload_model(frame.model, answer(frame.id)); }
  template <typename Other>
  void handle(const Other&) {
    throw Error(ErrorCode::internal_error, "worker frame: a kind that only a worker sends");
  }

  // The front hears of the model's state by the heartbeat that comes with this at the latest.
  ModelSink answer(std::uint64_t id) {
    return [this, id](const std::optional<Error>& error) {
      socket_->send(HeartbeatFrame{engine_->status()});
      socket_->send(ModelDoneFrame{id, error});
    };
  }

  std::chrono::milliseconds beat() {
    const EngineStatus status = engine_->status();
    if (status.last_tick != told_ && socket_->send(HeartbeatFrame{status})) told_ = status.last_tick;
    outbox_.report_losses();
    return std::min<std::chrono::milliseconds>(status.state == EngineState::running ? kBusyHeartbeat : kIdleHeartbeat,
                                               idle_turn_);
  }

  // In this order: the pulse reads the engine, whose last sinks write to the outbox, all within the timer.
  std::optional<ExitTimer> timer_;
  FrameSocket* const socket_;
  const std::chrono::milliseconds idle_turn_;
  const bool ignores_budgets_ = test_ignores_budgets();
  Outbox outbox_;
  std::unique_ptr<Engine> engine_;
  std::map<std::string, std::shared_ptr<const TokenTexts>> vocabularies_;  // by model; serve()'s thread
  std::optional<std::chrono::steady_clock::time_point> told_;              // the pulse's thread
  Pulse pulse_;
};

void serve(FrameSocket* socket, const MakeEngine& make_engine) {
  const auto first = socket->receive();
  if (!first) return;
  const auto* hello = std::get_if<HelloFrame>(&*first);
  if (hello == nullptr) throw Error(ErrorCode::internal_error, "worker frame: the first is no hello");
  const EngineOptions& options = hello->options;
  Server(socket, make_engine(options), std::chrono::milliseconds(options.idle_turn_ms)).serve();
}

}  // namespace

int run_worker(int descriptor) {
  return run_worker(descriptor, [](const EngineOptions& options) {
    LocalEngineOptions local;
    static_cast<EngineOptions&>(local) = options;
    local.failpoint = test_failpoint();
    return std::make_unique<LocalEngine>(std::move(local));
  });
}

int run_worker(int descriptor, const MakeEngine& make_engine) {
  prepare_process();
  FrameSocket socket{Descriptor(descriptor)};
  int status = 0;
  try {
    serve(&socket, make_engine);
  } catch (const std::exception& error) {
    log_error(fmt::format("the worker ends: {}", error.what()));
    status = kExitInternal;
  }
  socket.flush(kFlushPatience);
  return status;
}

}  // namespace cortex
