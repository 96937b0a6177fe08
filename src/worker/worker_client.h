// The front's engine: a worker process behind a socket, supervised. Implements Engine; see there for threads and sinks.
//
// One thread of its own keeps all requests and calls all sinks. Requests that come while no worker is ready wait, in
// order and bounded, until their deadline; those in flight when a worker dies end with engine_unavailable and are never
// replayed; when the supervisor gives up, everything ends so, at once. Requests that were in flight at a death are
// treated as quarantine.h says.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/channel.h"
#include "engine/engine.h"
#include "engine/engine_options.h"
#include "worker/frame_socket.h"
#include "worker/quarantine.h"
#include "worker/supervisor.h"

namespace cortex {

struct WorkerClientOptions {
  EngineOptions engine;  // its idle turn is shortened to what the supervisor's stall_after needs
  SupervisorOptions supervisor;
  std::size_t max_queued = 1024;
};

class WorkerClient : public Engine {
 public:
  explicit WorkerClient(WorkerClientOptions options);
  // Requests end with engine_unavailable; the worker is told to go and waited for.
  ~WorkerClient() override;

  void generate(GenerateRequest request, GenerateSink sink) override;
  void encode(EncodeRequest request, EncodeSink sink) override;
  void cancel(RequestId id) override;
  EngineStatus status() const override;
  void set_budget(const StepBudget& budget) override;
  // While there is no worker these wait for the next one.
  void load_model(const std::string& model, ModelSink sink) override;
  void unload_model(const std::string& model, ModelSink sink) override;

  // Of the worker process, 0 while there is none: for logs and tests.
  pid_t worker_pid() const;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  // One process's life as seen from here: its socket and the thread that reads it.
  struct Connection {
    // Says hello. Throws Error when the options don't fit a frame, and where no thread can be had.
    Connection(int number, Descriptor descriptor, const EngineOptions& options,
               const std::function<void(FrameSocket*)>& read);
    ~Connection();

    const int number;
    FrameSocket socket;
    std::thread reader;
    std::set<std::string> vocabularies;  // of these models it has been told
  };
  struct Request {
    RequestId id = 0;
    std::variant<GenerateRequest, EncodeRequest> request;  // moves on when it is sent
    std::variant<GenerateSink, EncodeSink> sink;
    std::optional<TimePoint> deadline;
    Fingerprint fingerprint = 0;
    int connection = 0;     // 0: it waits
    bool answered = false;  // a token has come
  };

  struct Cancel {
    RequestId id;
  };
  struct Told {
    StepBudget budget;
    TimePoint at;
  };
  struct Change {
    std::string model;
    bool loads = false;  // else it is to go
    ModelSink sink;
    int connection = 0;  // 0: it waits
  };
  struct Started {
    Descriptor descriptor;
  };
  struct Received {
    int connection;
    Frame frame;
  };
  struct Closed {
    int connection;
  };
  struct Stalled {};
  struct Died {};
  struct GaveUp {};
  using Command = std::variant<Request, Cancel, Started, Received, Closed, Stalled, Died, GaveUp, Told, Change>;

  template <typename Body, typename Sink>
  void submit(Body body, Sink sink);
  void submit(Change change);
  void read(int connection, FrameSocket* socket);  // the connection's thread

  // All that follows: the client's thread.
  void run();
  void turn();
  void end_all();
  void handle(Request request);
  void handle(Cancel cancel);
  void handle(Started started);
  void handle(Received received);
  void handle(Closed closed);
  void handle(Stalled);
  void handle(Died);
  void handle(GaveUp);
  void handle(Told told);
  void handle(Change change);
  void lose_worker(EngineState state);  // the status of a worker that is gone
  // What the next worker is started with: what has been unloaded stays so.
  EngineOptions start_options() const;
  void note_models(const EngineStatus& status);
  // Replaces a worker that keeps the memory of models it has unloaded.
  void replace_if_it_keeps_memory();
  void take(GenerateEventFrame frame, int connection);
  void take(EncodeReplyFrame frame, int connection);
  void take(HeartbeatFrame frame, int connection);
  void take(ModelDoneFrame frame, int connection);
  template <typename Other>
  void take(const Other& frame, int connection);

  // Sends what waits, as far as the quarantine lets it.
  void dispatch();
  void send(Request* request);
  // Ahead of the first request whose grammar needs it.
  void send_vocabulary(const GenerateRequest& request);
  void send_changes();
  // Of this connection, or 0: that wait.
  void end_changes(int connection, const Error& error);
  void end(RequestId id, const Error& error);
  void end_late();
  std::size_t in_flight() const { return requests_.size() - queue_.size(); }
  std::chrono::nanoseconds patience() const;
  // Changes the status that other threads see.
  void update(const std::function<void(EngineStatus*)>& change);

  const WorkerClientOptions options_;
  Channel<Command> inbox_;

  std::map<RequestId, Request> requests_;
  std::deque<RequestId> queue_;  // those of requests_ that wait
  std::map<std::uint64_t, Change> changes_;
  std::uint64_t changes_asked_ = 0;
  std::optional<Told> told_;        // the newest budget
  std::optional<RequestId> alone_;  // a suspect in flight: nothing else is sent
  std::unique_ptr<Connection> connection_;
  int connections_ = 0;                       // the newest's number
  int ended_ = 0;                             // the newest whose process has died
  int worker_waiting_ = 0;                    // as the last heartbeat told
  std::set<std::string> unloaded_;            // models, as the last heartbeat told
  std::optional<std::uint64_t> first_bytes_;  // resident in this worker at its first heartbeat
  std::optional<TimePoint> emptied_;          // when its last model went
  bool had_models_ = false;                   // this worker
  bool dead_ = false;
  Quarantine quarantine_;

  mutable std::mutex status_mutex_;
  EngineStatus status_;

  std::thread thread_;
  std::unique_ptr<Supervisor> supervisor_;
};

}  // namespace cortex
