// One configured model inside the engine: its state and, once it is ready, what runs it: the device's side, and a
// decoder's blocks, scheduler and texts or an encoder's queue. Owned by LocalEngine, its thread only.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/disk_tier.h"
#include "engine/encode_queue.h"
#include "engine/engine.h"
#include "engine/engine_options.h"
#include "engine/failpoint.h"
#include "engine/model_loader.h"
#include "engine/scheduler.h"
#include "engine/step_times.h"
#include "engine/text_sequences.h"
#include "kv/block_pool.h"

namespace cortex {

struct ModelSlot {
  ModelStatus status;
  LoadedModel loaded;
  std::unique_ptr<BlockPool> pool;       // decoders
  std::unique_ptr<DiskTier> tier;        // decoders, where there is a store
  std::unique_ptr<Scheduler> scheduler;  // decoders
  std::unique_ptr<TextSequences> texts;  // decoders: what they encode
  std::unique_ptr<EncodeQueue> queue;    // encoders
  StepTimes encode_times;                // encoders: of batches, by tokens
  Failpoint failpoint;                   // of the scheduler
  double used_ms = 0.0;                  // of the device, for a fair share
  bool had_work = false;                 // at the last turn
  std::vector<RequestId> held;           // came while it loads, in order; some may be over
  std::vector<ModelSink> sinks;          // of those who wait for it to be loaded
  bool unwanted = false;                 // it loads, and is to go at once
  int loads = 0;                         // that have begun: what another load's tier reads is not this one's
  std::optional<std::chrono::steady_clock::time_point> idle_since;  // absent while it has requests
  int prepared_blocks = 0;                                          // of the pool's, from the first on
  int consecutive_failures = 0;                                     // steps that threw since its last good one

  // Makes it ready. The store may be null; what it reads is brought by `post`. Throws what the device throws.
  void install(LoadedModel new_loaded, const EngineOptions& options, DiskStore* store = nullptr,
               std::function<void(DiskTier::Part)> post = {});
  // Gives back all that it holds; what its tier keeps goes to disk.
  void unload();
  // For good, unless it is told to load again: gives back what it holds.
  void fail(const std::string& why);
  // Why it failed, for the requests to it.
  Error failure() const;
  // Throws failure() unless it is ready.
  void require_ready() const;

  // A request that was added to the scheduler, the texts or the queue.
  void cancel(RequestId id);
  // Requests that run: those with a sequence in the steps, and all that encode.
  int entered() const;
  int entered_encodings() const;  // of these

  // Something to compute, or that waits to be.
  bool has_work() const { return scheduler ? !scheduler->idle() : queue && !queue->idle(); }

  // Blocks that nobody uses leave the pool, at most so many with content, the oldest first, and the device gives their
  // memory back. False when there is nothing left to give.
  bool evict_blocks(int most);

  // Has the device find memory for some of the pool's next blocks. False when enough of them have it.
  bool prepare_blocks();

  // What the device's allocator has and keeps, DecoderBackend::device_bytes(); and to have it keep nothing.
  std::size_t device_bytes() const;
  void trim();

  // From plan() to commit(), or to fail_step().
  bool in_step() const;
  // The step threw. The requests in it, which the scheduler or the queue has forgotten. Allocates nothing.
  std::span<const RequestId> fail_step();

  // Unloads without a word to the disk.
  void drop();
};

}  // namespace cortex
