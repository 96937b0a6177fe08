// The texts of encode requests on their way through a decoder: each is a sequence of the scheduler's, and their rows
// are gathered until a request has all of its own. Pure: no device, no clock. One a decoder, owned by the engine, its
// thread only:
//
//   add() ...  loop { the scheduler's step -> take(event) of every text in it }
//
// A request has only so many texts in the scheduler as fill a step. Its next ones come when those are over, as new
// arrivals, so that a large request shares the device with whatever else comes.
//
// Invariants:
//   1. of a request, the texts in the scheduler have window_tokens tokens or more, or it has no others;
//   2. a request that is over has no sequence in the scheduler.
#pragma once

#include <cstddef>
#include <map>
#include <optional>

#include "engine/encode_queue.h"
#include "engine/request.h"
#include "engine/scheduler.h"

namespace cortex {

class TextSequences {
 public:
  // The scheduler outlives it.
  TextSequences(Scheduler* scheduler, int window_tokens)
      : scheduler_(scheduler), window_tokens_(static_cast<std::size_t>(window_tokens)) {}

  // Texts are not empty, ids in range. A request without texts is a bug. Throws Error request_cannot_fit when even an
  // empty pool has too few blocks for one of them; then nothing of it is in the scheduler.
  void add(EncodeRequest request);
  // Between steps only. False when there is no such request.
  bool cancel(RequestId id);

  // A text's sequence is over. Its request's reply, when it is complete or broken; nothing too when that is over
  // already. When it throws, cancel() is to follow.
  std::optional<EncodeEvent> take(SequenceEvent event);

  int requests() const { return static_cast<int>(jobs_.size()); }

 private:
  struct Job {
    EncodeRequest request;
    std::size_t next = 0;           // the first text that has not been in the scheduler
    std::size_t inside_tokens = 0;  // of its texts in the scheduler
    std::size_t done = 0;           // texts
    EncodeReply reply;
  };

  void feed(Job* job);
  void keep(Job* job, std::size_t text, const std::vector<float>& row);

  Scheduler* const scheduler_;
  const std::size_t window_tokens_;
  std::map<RequestId, Job> jobs_;
};

}  // namespace cortex
