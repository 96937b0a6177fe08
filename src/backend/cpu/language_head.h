// The last projection, from rows to what is wanted of their logits. Chunks of the vocabulary pass all rows and are
// summed up while a thread still has them in its cache: the likeliest tokens, the scores of given ones, the sum of
// exponents. Whole rows of logits are written only where one is sampled or asked for. The decoder's, called by the
// engine thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <span>
#include <vector>

#include "backend/cpu/input_rows.h"
#include "backend/cpu/projection.h"
#include "backend/cpu/thread_team.h"
#include "backend/sampler.h"
#include "backend/step_plan.h"

namespace cortex {

class LanguageHead {
 public:
  // results [wanted], of the rows of `in` [wanted], packed, through `projection`, whose first `vocabulary` outputs are
  // the logits. A row's result is the same bits whatever else is wanted, on any number of threads.
  void run(ThreadTeam& team, const Projection& projection, int vocabulary, const InputRows& in,
           std::span<const WantedRow> wanted, std::span<RowResult> results);
  std::size_t memory_bytes() const;
  // That at most, after `rows` rows through a projection of `outputs` outputs.
  static std::size_t needed_bytes(int rows, int outputs, int vocabulary, int threads);

 private:
  // Of some logits of a row.
  struct Sum {
    float largest = 0.0f;
    double of_exponents = 0.0;  // of exp(logit - largest); NaN when a logit is not finite
  };
  // What a thread has seen of a row, in chunks of ascending tokens.
  struct Seen {
    TokenLogit likeliest;
    GreedyChoice choice;
    std::vector<TokenLogit> top;  // a heap, the least likely first
  };
  struct Worker {
    std::vector<float> logits;  // [rows, outputs of a chunk], unless whole rows are kept
    std::vector<Seen> rows;
  };

  void see_chunks(const Projection& projection, const InputRows& in, std::span<const WantedRow> wanted, Worker& worker);
  void see(int chunk, std::size_t row, std::span<const float> logits, const WantedRow& wanted, Seen& seen);
  LogitSummary summary_of(std::size_t row, const WantedRow& wanted);

  // Of the run at hand.
  int vocabulary_ = 0, chunks_ = 0;
  bool whole_ = false;  // rows of logits are kept
  std::atomic<int> next_chunk_ = 0;
  std::vector<float> logits_;               // [rows, outputs] when whole
  std::vector<Sum> sums_;                   // [rows, chunks]
  std::vector<std::vector<float>> scores_;  // [rows], as WantedRow::scores: logits
  std::vector<Worker> workers_;             // [threads]
};

}  // namespace cortex
