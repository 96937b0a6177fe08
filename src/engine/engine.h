// The one interface between text and tokens: what the front asks of whatever runs models. LocalEngine implements it on
// its own thread in the worker, WorkerClient across the process boundary in the front, EchoEngine without any model in
// tests. Plain structs, no MLX.
//
// Every call may come from any thread and returns at once. Sinks are called on the engine's thread (one at a time per
// request), must not block and must not call back into the engine, except cancel() and status(). After its last event a
// sink is dropped and never called again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/step_plan.h"
#include "base/error.h"
#include "engine/step_budget.h"
#include "model/model_kind.h"

namespace cortex {

using RequestId = std::uint64_t;  // made by the caller, unique in its engine's life

// A model to run: the engine loads it, the caller has read its text side.
struct ModelConfig {
  std::string name;
  std::string path;
  std::optional<ModelKind> kind;  // absent: what its files make it
  bool load_at_start = true;      // else at its first request
  bool pinned = false;            // stays once it is loaded, unless it is told to go
};

// What each id of a model's vocabulary adds to a text, and with which ids a text may end.
struct TokenTexts {
  std::vector<std::uint32_t> offsets;  // [ids + 1]; id i adds bytes[offsets[i]] to bytes[offsets[i + 1]]
  std::vector<char> bytes;
  std::vector<std::uint8_t> special;  // [ids]: 1 where a grammar can't mean the token by its bytes
  std::vector<TokenId> ends;          // the first of them stands for all in a grammar
};

enum class GrammarSyntax { json_schema, regex, lark };

// What a reply keeps to, from its first token to its last. A reply that max_tokens cut may lack its end.
struct Grammar {
  GrammarSyntax syntax = GrammarSyntax::json_schema;
  std::string text;
  std::shared_ptr<const TokenTexts> vocabulary;  // the model's; the same for all its requests
};

struct GenerateRequest {
  RequestId id = 0;
  std::string model;
  std::vector<TokenId> prompt;
  int max_tokens = 0;                  // 0 scores the prompt and samples nothing
  bool max_tokens_may_shrink = false;  // to what the KV space can hold behind the prompt, at least 1
  std::vector<TokenId> stop_ids;
  SamplingParams sampling;
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::optional<Grammar> grammar;
  std::vector<TokenId> prediction;  // what the reply may say: a source of drafts, no more
  bool logprobs = false;            // of sampled tokens
  int top_logprobs = 0;             // the likeliest alternatives beside each, and beside each of the prompt's
  bool prompt_logprobs = false;     // of prompt[1..], as events before the first sampled token; takes no prefix hits
  bool explain = false;             // tells why no more of the prompt was found in KV
  int priority = 0;                 // -10..10, lower first
  std::string salt;                 // keeps cached blocks of tenants apart
  std::optional<std::chrono::milliseconds> timeout;  // from now; then deadline_exceeded
  std::string trace;                                 // the client's request id, for the log only
};

struct SampledToken {
  TokenId token = 0;
  float logprob = 0.0f;
  std::vector<TokenLogprob> top_logprobs;
};

enum class FinishReason { stop, length };

// Why a prompt's next block was not found.
enum class CacheMiss {
  first_use,          // nothing like it was computed
  diverged,           // what was computed has another token there
  evicted,            // it was there, and made room
  other_salt,         // only another tenant of the same key has it
  not_yet_written,    // a sequence that runs is computing it
  cheaper_to_compute  // it is on disk, but reading it would take longer
};
std::string_view name_of(CacheMiss miss);

struct CacheExplanation {
  std::optional<CacheMiss> miss;       // absent: all that can be found was
  std::optional<int> diverged_at;      // position of the first token that differs
  std::optional<TokenId> diverged_to;  // the prompt's token there
};

struct GenerateTimings {
  double queue_ms = 0.0;    // from submission to the first step
  double prefill_ms = 0.0;  // to the first token
  double decode_ms = 0.0;   // from the first token to the last
  int prompt_tokens = 0;
  int cached_tokens = 0;  // of the prompt, found in KV
  int cached_disk_tokens = 0;
  int draft_tokens = 0;
  int draft_accepted = 0;
  std::optional<CacheExplanation> cache;  // when it is asked for
};

// Some tokens, or the end. A failed request gets `error` as its only last event.
struct GenerateEvent {
  std::vector<float> prompt_logprobs;                          // the next ones of prompt[1..]
  std::vector<std::vector<TokenLogprob>> prompt_top_logprobs;  // as these, when top_logprobs are asked for
  std::vector<SampledToken> tokens;                            // a stop id is the last of them, with finish = stop
  std::optional<FinishReason> finish;
  std::optional<GenerateTimings> timings;  // so far with the first token, whole with finish
  std::optional<Error> error;

  bool last() const { return finish.has_value() || error.has_value(); }
};
using GenerateSink = std::function<void(GenerateEvent)>;

// Of an encoder the pooled states or, when it has a head, the logits; of a decoder the last token's state, or its
// log-probabilities of `scores` as the next token.
struct EncodeRequest {
  RequestId id = 0;
  std::string model;
  std::vector<std::vector<TokenId>> texts;       // special tokens included
  std::vector<std::vector<std::int32_t>> types;  // as texts, or empty: all 0; encoders only
  std::vector<TokenId> scores;                   // decoders only; empty: the state
  int priority = 0;
  std::string salt;
  std::optional<std::chrono::milliseconds> timeout;
  std::string trace;
};

struct EncodeReply {
  int dimensions = 0;
  std::vector<float> vectors;  // [texts, dimensions], not normalised
  double queue_ms = 0.0;
  double compute_ms = 0.0;
  std::optional<Error> error;
};
using EncodeSink = std::function<void(EncodeReply)>;

enum class ModelState { unloaded, loading, ready, failed };
std::string_view name_of(ModelState state);

// What a decoder's KV cache has done since the model was loaded, and holds.
struct KvStatus {
  int blocks = 0;
  int blocks_used = 0;    // by sequences
  int blocks_cached = 0;  // by nobody, with content that can be found
  int running = 0;        // sequences
  int waiting = 0;
  std::uint64_t query_tokens = 0;  // of prompts that were looked up
  std::uint64_t memory_hit_tokens = 0;
  std::uint64_t disk_hit_tokens = 0;
  std::uint64_t preemptions = 0;
};

// What drafts have come to since the model was loaded.
struct SpeculationStatus {
  std::uint64_t steps = 0;     // of sequences: each computes one token, and those whose drafts were right
  std::uint64_t drafted = 0;   // tokens
  std::uint64_t accepted = 0;  // of these
  double saved_ms = 0.0;       // predicted: steps that were not needed, less what the drafts' rows took
};

// What grammars have cost since the model was loaded.
struct GrammarStatus {
  std::uint64_t compiled = 0;
  std::uint64_t reused = 0;   // found compiled
  std::uint64_t refused = 0;  // can't be compiled, or not in time
  std::uint64_t masks = 0;    // computed, one for each row that was to keep to a grammar
  double masks_ms = 0.0;      // that they took
};

// The disk tier of all decoders.
struct KvDiskStatus {
  std::string state = "off";  // off, ok, full (nothing more is written), error
  std::string message;        // why it is off though it was asked for, full, or in error
  bool scanning = false;      // not all of what lies there is known yet
  std::uint64_t bytes = 0, limit_bytes = 0;
  std::uint64_t files = 0;
  std::uint64_t written_bytes = 0, read_bytes = 0;              // since the start
  std::vector<std::pair<std::string, std::uint64_t>> rejected;  // files that were not what they should be, by reason
};

struct ModelStatus {
  std::string name;
  ModelState state = ModelState::unloaded;
  double progress = 0.0;    // 0..1 while loading
  std::uint64_t bytes = 0;  // weights, pool and scratch
  std::string backend;      // "cpu", "mlx"; empty before it is chosen
  std::string device;
  std::string failure;     // why it failed, fit for a client
  bool on_demand = false;  // it loads because somebody asks for it, not as a part of the start
  bool pinned = false;
  double idle_s = 0.0;  // since its last request ended; 0 while it has some
  std::string plan;     // how it was made to fit: "q4_1 weights, bf16 KV of 2048 blocks"; empty before
  // Of a decoder.
  KvStatus kv;
  SpeculationStatus speculation;
  GrammarStatus grammars;
};

enum class EngineState { idle, running, stalled, failing, restarting, dead };
std::string_view name_of(EngineState state);

// What the engine says of itself; kept in atomics and small copies, so that reading it never waits for a step.
struct EngineStatus {
  EngineState state = EngineState::idle;
  std::string backend;
  std::string device;
  std::chrono::steady_clock::time_point last_tick;                 // when its loop last turned
  std::optional<std::chrono::steady_clock::time_point> last_step;  // the last good step
  std::uint64_t steps = 0;
  // Steps that threw since the last good one: of the model with most of them, or of the loop itself.
  int consecutive_failures = 0;
  int restarts = 0;  // of its process
  int running = 0;   // sequences and encode jobs in steps
  int waiting = 0;
  int running_encodings = 0;  // of these
  int waiting_encodings = 0;
  int kv_blocks = 0;  // of all pools
  int kv_blocks_used = 0;
  std::uint64_t memory_bytes = 0;  // resident, of the process that computes
  std::uint64_t device_bytes = 0;  // that its device counts: MLX's active memory and cache; 0 where there is no such
  std::uint64_t budget_bytes = 0;  // that all models together may have; 0: no limit was given
  int level = 0;                   // that it acts at: the governor's, or 1 when that has fallen silent
  double step_drift = 0.0;  // a step's time by what such a step took when it was new, over the last half minute; 0: too
                            // few steps
  std::uint64_t guard_preempted = 0;  // sequences that a level made wait anew
  std::uint64_t guard_cancelled = 0;  // requests that a level ended
  bool own_process = false;  // the engine runs in a process of its own; memory_bytes is then not part of the caller's
  std::vector<ModelStatus> models;
  KvDiskStatus kv_disk;
};

// What became of a model that was to come or to go: an error, or nothing when it is so.
using ModelSink = std::function<void(std::optional<Error>)>;

class Engine {
 public:
  virtual ~Engine() = default;
  virtual void generate(GenerateRequest request, GenerateSink sink) = 0;
  virtual void encode(EncodeRequest request, EncodeSink sink) = 0;
  // Ends a request with the error `cancelled`; nothing happens when it is already over.
  virtual void cancel(RequestId id) = 0;
  virtual EngineStatus status() const = 0;
  // Obeyed from the next step on.
  virtual void set_budget(const StepBudget& budget) = 0;
  // Loads a configured model, as its first request would; at once over when it is there. Error model_not_found,
  // model_failed, or request_cannot_fit when even without all others it has no room.
  virtual void load_model(const std::string& model, ModelSink sink) = 0;
  // Unloads it; its requests end with model_loading. Error model_not_found.
  virtual void unload_model(const std::string& model, ModelSink sink) = 0;
};

}  // namespace cortex
