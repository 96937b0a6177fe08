// The engine: runs decoders and encoders on a thread of its own. Implements Engine; see there for threads and sinks.
//
// One thread turns the loop: take what came in, end what is late, compute one step of a decoder or one batch of an
// encoder (of the models with work, the one that has had the least of the device's time), tell the sinks. A loader
// thread brings up the models one after another, at the start or when somebody asks for them; requests to a model that
// is not there wait, as long as their deadline lets them, and so do those with a grammar until that is compiled, on
// threads beside. The idle loop turns at least every EngineOptions::idle_turn_ms, which EngineStatus::last_tick shows.
// All of it keeps to the StepBudget.
//
// A model goes when it is told to, when it has been idle for idle_unload_s, and when the budget `evicts`: then one a
// second, the longest idle first, at once where it also `preempts`, else after ten seconds without a request. Pinned
// ones go only when they are told to.
//
// No exception leaves either thread. A step that throws ends its requests, a model whose device failed ends all of its
// own; anything else that throws is counted as a failure, and the loop turns on. A request always ends.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "base/channel.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/engine_options.h"
#include "engine/failpoint.h"
#include "engine/grammar_compiler.h"
#include "engine/ledger.h"
#include "engine/loader_thread.h"
#include "engine/model_loader.h"
#include "engine/model_slot.h"
#include "engine/step_counts.h"
#include "engine/step_drift.h"
#include "kv/disk_store.h"

namespace cortex {

struct LocalEngineOptions : EngineOptions {
  const Clock* clock = &system_clock();
  OpenModel open_model;      // empty: from disk
  OpenBackend open_backend;  // empty: cortex::open_backend
  Failpoint failpoint;       // tests
};

class LocalEngine : public Engine {
 public:
  // Throws Error invalid_option when options don't fit each other, engine_unavailable when a thread can't start. Models
  // load afterwards: status() tells how it goes.
  explicit LocalEngine(LocalEngineOptions options);
  // Requests in flight end with engine_unavailable. Waits for the step that runs.
  ~LocalEngine() override;

  void generate(GenerateRequest request, GenerateSink sink) override;
  void encode(EncodeRequest request, EncodeSink sink) override;
  void cancel(RequestId id) override;
  EngineStatus status() const override;
  void set_budget(const StepBudget& budget) override;
  void load_model(const std::string& model, ModelSink sink) override;
  void unload_model(const std::string& model, ModelSink sink) override;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Everything that is alike for both kinds of request.
  template <typename Request, typename Sink>
  struct Job {
    Request request;  // moves on to the model once that is ready; its id stays
    Sink sink;
    std::string trace;
    TimePoint submitted;
    std::optional<TimePoint> deadline;
    std::optional<TimePoint> started;  // its first step
    std::size_t model = 0;
    bool held = true;  // `request` is still here
  };
  struct Generation : Job<GenerateRequest, GenerateSink> {
    std::optional<TimePoint> first_token;
    int prompt_tokens = 0;
  };
  struct Encoding : Job<EncodeRequest, EncodeSink> {
    double compute_ms = 0.0;
  };
  struct Cancel {
    RequestId id;
  };
  struct Progress {
    std::size_t model;
    double fraction;
  };
  struct Loaded {
    std::size_t model;
    LoadOutcome outcome;
  };
  struct Told {
    StepBudget budget;
    TimePoint at;
  };
  struct Change {
    std::string model;
    bool loads;  // else it is to go
    ModelSink sink;
  };
  struct GrammarReady {};  // one at least
  struct ReadPart {
    std::size_t model;
    int load;  // ModelSlot::loads when it was asked for
    DiskTier::Part part;
  };
  using Command = std::variant<Generation, Encoding, Cancel, Progress, Loaded, ReadPart, GrammarReady, Told, Change>;

  void stop();  // both threads
  void send(Change change);
  std::function<void(std::string_view)> write_failpoint() const;
  GrammarCompilerOptions grammar_options();

  // All that follows: the engine thread.
  void run();
  void turn(bool* busy);
  // A turn threw outside a step's attempt: what is planned ends, the thread goes on.
  void fail_turn(const Error& error) noexcept;
  void drain_inbox(std::chrono::nanoseconds patience);
  void handle(Generation generation);
  void handle(Encoding encoding);
  void handle(Cancel cancel);
  void handle(Progress progress);
  void handle(Loaded loaded);
  void handle(const ReadPart& read);
  void handle(GrammarReady) {}  // start_compiled() follows
  void handle(Told told);
  void handle(Change change);
  template <typename Kind>
  void accept(Kind job, std::map<RequestId, Kind>* jobs);
  void start(RequestId id);
  void start(Generation* generation);
  void start(Encoding* encoding);
  void start_compiled();  // those whose grammars are ready, or refused
  void add(Generation* generation, std::unique_ptr<TokenGuide> guide);
  void end(RequestId id, const Error& error);  // wherever the request is
  void end_all(const ModelSlot& slot, const Error& error);
  void end_late();
  std::chrono::nanoseconds patience() const;

  // The models' coming and going: local_engine_models.cpp.
  void queue_load(std::size_t model, bool on_demand);
  void begin_load();
  // With a limit on memory: whether the load that `model` was refused for want of room is to be tried again, after an
  // idle model has made some.
  bool makes_room(std::size_t model);
  LoadTerms terms_of(std::size_t model);
  bool may_wait_for_room(std::size_t model) const;  // others have some of it
  void settle();                                    // what models have by what they were planned to
  void fail_loading();
  void unload(ModelSlot* slot);  // ends all its requests
  // For good, unless it is told to load: gives back what the model holds and ends all its requests.
  void fail_model(ModelSlot* slot, const Error& why);
  void tell(ModelSlot* slot, const std::optional<Error>& error);  // those who wait for it to be loaded
  void answer();                                                  // once the status tells what became of a model
  bool tend_models();                                             // true while there is more memory to give back
  void note_idle_models();
  static bool may_go(const ModelSlot& slot);  // idle, and not pinned
  ModelSlot* longest_idle();
  bool evict(TimePoint now);

  // One step: local_engine_step.cpp.
  bool compute_within_budget();
  int most_sequences() const;
  void cancel_youngest();
  bool compute();  // one step or batch
  void reach(std::string_view phase, std::span<const TokenId> tokens) const;
  // A step of the model took so long.
  void note_step(const ModelSlot& slot, StepKind kind, const StepSize& size, double ms);
  // The models that have work, the one with the least time first.
  std::vector<ModelSlot*> turn_order();
  bool step(ModelSlot* slot, bool alone);
  bool encode_batch(ModelSlot* slot, bool alone);
  bool write_blocks();  // one run of blocks to disk, of what the tiers keep
  double now_ms() const;
  // Runs a step's work; what it threw, if it did.
  template <typename Work>
  std::optional<Error> attempt(ModelSlot* slot, const Work& work);
  // The step threw: its requests end; all of the model's when the device can't run it any more.
  void fail_step(ModelSlot* slot, const Error& error);
  void deliver(SequenceEvent event, TimePoint now);
  void deliver_text(ModelSlot* slot, SequenceEvent event, TimePoint now);
  void deliver(EncodeEvent event);
  void publish();
  void shut_down();

  LocalEngineOptions options_;
  const Clock& clock_;
  ModelLoader loader_;
  Channel<Command> inbox_;
  std::atomic<bool> stopping_ = false;
  const Error shutting_down_{ErrorCode::engine_unavailable, "the engine is shutting down"};

  GrammarCompiler grammars_;          // by model
  std::unique_ptr<DiskStore> store_;  // where there is a disk tier
  std::vector<ModelSlot> models_;
  std::map<RequestId, Generation> generations_;
  std::map<RequestId, Encoding> encodings_;
  int failed_turns_ = 0;   // since the last good one
  double wrote_ms_ = 0.0;  // when write_blocks() was last called
  TimePoint memory_read_;
  StepDrift drift_;
  std::optional<Told> told_;  // the newest budget; without a governor there is none
  StepBudget budget_;         // that counts in this turn
  TimePoint resumes_;         // no step before
  TimePoint evicted_;         // when a model last made room under pressure
  TimePoint trimmed_;         // when the devices were last told to keep nothing
  Ledger ledger_;             // by model
  std::deque<std::size_t> to_load_;
  std::optional<std::size_t> loading_;          // on the loader's thread
  std::optional<std::uint64_t> refused_bytes_;  // room that was too little for the first of to_load_
  std::vector<std::pair<ModelSink, std::optional<Error>>> answers_;
  EngineStatus current_;

  mutable std::mutex status_mutex_;
  EngineStatus status_;  // a copy of current_ for other threads

  std::optional<LoaderThread> loader_thread_;
  std::thread engine_thread_;
};

}  // namespace cortex
