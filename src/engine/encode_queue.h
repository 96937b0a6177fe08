// Texts that wait to be encoded, packed into batches of about as many tokens. Pure: no device, no clock. One queue an
// encoder, owned by the engine, its thread only:
//
//   add() ...  loop { plan() -> the device computes it -> commit(result) or fail_batch() }
//
// A batch takes whole texts by priority (lower first), then by turn: a job that a batch leaves unfinished goes to the
// end of its priority's line, so a large job and small ones share the device. A text longer than the budget is a batch
// of its own.
//
// Invariants:
//   1. a job's texts are computed in their order, each once;
//   2. a batch holds at most batch_tokens tokens, or a single text.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "engine/request.h"

namespace cortex {

inline constexpr int kMostBatchTokens = 1 << 20;

struct EncodeEvent {
  RequestId id = 0;
  EncodeReply reply;  // times are left to the engine
};

class EncodeQueue {
 public:
  // Throws Error invalid_option when batch_tokens is not in [1, kMostBatchTokens].
  explicit EncodeQueue(int batch_tokens);

  // Texts are not empty, ids in range. A job without texts is a bug.
  void add(EncodeRequest request);
  // Between batches only. False when there is no such job.
  bool cancel(RequestId id);

  // The most tokens of a batch.
  int batch_tokens() const { return static_cast<int>(batch_tokens_); }

  // The next batch, of at most so many tokens (a single text may have more), valid until commit() or fail_batch(); no
  // texts when there is nothing to do.
  const PackedTexts& plan(int most_tokens);
  const PackedTexts& plan() { return plan(batch_tokens()); }
  const PackedTexts& planned_batch() const { return batch_; }
  // The requests in the planned batch, in its order; still there after the batch, until the next plan().
  std::span<const RequestId> planned() const { return planned_ids_; }
  // Takes in what the batch computed; the jobs that are complete or broken. When it throws, fail_batch() is to follow.
  std::vector<EncodeEvent> commit(const EncodeResult& result);
  // plan(), the device or commit() threw: the planned jobs are removed, the others go on. Allocates nothing.
  void fail_batch();
  // From plan() to commit() or fail_batch().
  bool in_batch() const { return in_batch_; }

  bool idle() const { return jobs_.empty(); }
  int jobs() const { return static_cast<int>(jobs_.size()); }

 private:
  struct Job {
    EncodeRequest request;
    std::uint64_t turn = 0;  // lower goes first within a priority
    std::size_t done = 0;    // texts
    EncodeReply reply;
  };
  struct Planned {
    std::size_t job = 0;  // in jobs_
    std::size_t texts = 0;
  };

  // Packs what fits of the job's texts; false when its next one does not.
  bool pack(std::size_t job, std::size_t most_tokens);
  void end_batch();

  const std::size_t batch_tokens_;
  std::uint64_t turns_ = 0;
  std::vector<Job> jobs_;
  bool in_batch_ = false;
  PackedTexts batch_;
  std::vector<Planned> planned_;
  std::vector<RequestId> planned_ids_;  // as planned_
};

}  // namespace cortex
