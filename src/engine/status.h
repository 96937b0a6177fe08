// What an engine says of itself, of its models and of what they have counted. Plain values: they cross from the worker
// process with its heartbeats, whole each time; counts begin again with that process, and a model's with its load.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/step_counts.h"

namespace cortex {

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
  StepCounts step_counts = {};  // of good steps, since its process began
  std::vector<ModelStatus> models;
  KvDiskStatus kv_disk;
};

}  // namespace cortex
