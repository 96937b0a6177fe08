// Which rows of which sequences the next step computes. Pure: no device, no clock, no files. One scheduler a decoder,
// owned by the engine, its thread only:
//
//   add() ...  loop { plan()  -> the device computes it ->  commit(result) or fail_step() }
//
// Order: a waiting sequence starts by priority (lower first), then arrival, once the pool has blocks for its prompt and
// all of max_tokens; while the first one waits for blocks, none overtakes it. A step takes every decoding sequence's
// row, then prompt rows of the longest waiting sequences until the step is full. A chunk that does not end its prompt
// ends on a block boundary, so that every chunk starts on one.
//
// Invariants:
//   1. waiting sequences hold no blocks, running ones all they can ever need: nothing is preempted;
//   2. a step has at most rows_per_step rows;
//   3. a sequence that ended, by itself, by cancel() or by an error, has given its blocks back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backend/step_plan.h"
#include "engine/engine.h"
#include "engine/sequence.h"
#include "kv/block_pool.h"

namespace cortex {

inline constexpr int kMostSequences = 4096;
inline constexpr int kMostRowsPerStep = 65536;

struct SchedulerLimits {
  int rows_per_step = 256;
  int max_sequences = 64;  // running at a time; rows_per_step has room for these and one block of prompt
};

// What a step means to one sequence; timings are left to the engine.
struct SequenceEvent {
  RequestId id = 0;
  GenerateEvent event;              // of a text its end: finish = length, or an error
  std::optional<std::size_t> text;  // which of the request's, where it encodes
  std::vector<float> row;           // what is wanted of the text's last row
};

class Scheduler {
 public:
  // The pool outlives it. Throws Error invalid_option when a limit is out of range or they don't fit each other.
  Scheduler(SchedulerLimits limits, BlockPool* pool);

  // Prompts are not empty, ids in range. Throws Error request_cannot_fit when even an empty pool has too few blocks.
  void add(GenerateRequest request);
  void add(TextSequence text);
  // Throws what add() throws for so many tokens.
  void require_room(std::size_t prompt_tokens, int max_tokens) const;
  // All sequences of the request. Between steps only. False when there is none.
  bool cancel(RequestId id);

  // The next step, valid until commit() or fail_step(); no slices when there is nothing to do.
  const StepPlan& plan();
  const StepPlan& planned_step() const { return plan_; }
  // The requests in the planned step, [slices], in its order (twice or more, where several of its texts are); still
  // there after the step, until the next plan().
  std::span<const RequestId> planned() const { return planned_ids_; }
  // Takes in what the step computed. Events come in the order of the slices, at most one a sequence. When it throws,
  // every planned sequence still has its blocks, and fail_step() is to follow.
  std::vector<SequenceEvent> commit(const StepResult& result);
  // plan(), the device or commit() threw: the planned sequences are removed, the others go on. Allocates nothing.
  void fail_step();
  // From plan() to commit() or fail_step().
  bool in_step() const { return in_step_; }

  bool idle() const { return running_.empty() && waiting_.empty(); }
  int running() const { return static_cast<int>(running_.size()); }
  int running_texts() const;
  int waiting() const { return static_cast<int>(waiting_.size()); }

 private:
  using SequencePtr = std::unique_ptr<Sequence>;
  struct Planned {
    Sequence* sequence = nullptr;
    std::size_t first_wanted = 0;  // in plan_.wanted
    std::size_t wanted_rows = 0;
    bool over = false;
  };

  std::int64_t capacity_tokens() const;
  void check_shape(const StepResult& result) const;
  template <typename Request>
  void add(Request request, int priority);
  void admit();
  int chunk_rows(const Sequence& sequence, int budget) const;
  void add_slice(Sequence* sequence, int rows);
  void add_wanted(const Sequence& sequence, int position, int row);
  // Slice `index` of the step is computed; `rows` [W] are the whole step's.
  SequenceEvent advance(std::size_t index, std::span<const RowResult> rows);
  void take_token(Sequence* sequence, const RowResult& row, GenerateEvent* event);
  void remove(const Sequence* sequence);
  void end_step();

  const SchedulerLimits limits_;
  BlockPool* const pool_;
  std::uint64_t arrivals_ = 0;
  std::map<std::pair<int, std::uint64_t>, SequencePtr> waiting_;  // by priority, arrival
  std::vector<SequencePtr> running_;                              // by arrival
  bool in_step_ = false;
  StepPlan plan_;
  std::vector<Planned> planned_;        // as plan_.slices
  std::vector<RequestId> planned_ids_;  // as plan_.slices
};

}  // namespace cortex
