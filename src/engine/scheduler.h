// Which rows of which sequences the next step computes. Pure: no device, no clock, no files. One scheduler a decoder,
// owned by the engine, its thread only:
//
//   add() ...  loop { plan()  -> the device computes it ->  commit(result) or fail_step() }
//
// Order: a waiting sequence starts by priority (lower first), then arrival; one that has waited for kLongestWaitMs goes
// before all that have not. It starts when the pool has blocks for its tokens and one more for each that generates;
// while the first one waits for blocks, none overtakes it. One whose next block a running sequence is computing waits
// for that, and holds up nobody. A step takes every decoding sequence's row, then rows of drafts that are likely to
// save more than they cost (acceptance.h, speculation.h), then prompt rows of the longest waiting sequences until the
// step is full or predicted to take as long as it may. A chunk that does not end its prompt ends on a block boundary.
// When a decoding sequence needs a block and none is free, the youngest of the lowest priority stops, gives its blocks
// back, of which the full ones can be found again, and waits anew. Drafts take only blocks that are free and that
// nobody needs to grow, until the step is over.
//
// A draft is kept while it equals what the row before it sampled, with that position's own noise, penalties and
// grammar: what a sequence says does not depend on its drafts.
//
// Invariants:
//   1. waiting sequences hold no blocks, running ones all that their next step writes;
//   2. a step has at most rows_per_step rows, and at least one block of some prompt where there is one;
//   3. a sequence that ended, by itself, by cancel() or by an error, has given its blocks back;
//   4. what a sequence samples depends on none of this.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backend/step_plan.h"
#include "engine/acceptance.h"
#include "engine/block_tier.h"
#include "engine/drafter.h"
#include "engine/failpoint.h"
#include "engine/prefix_reuse.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "engine/status.h"
#include "engine/step_counts.h"
#include "engine/step_times.h"
#include "kv/block_pool.h"

namespace cortex {

inline constexpr int kMostSequences = 4096;
inline constexpr int kMostRowsPerStep = 65536;

inline constexpr double kLongestWaitMs = 10000.0;

struct SchedulerLimits {
  int rows_per_step = 512;
  int max_sequences = 64;  // running at a time; rows_per_step has room for these and one block of prompt
};

// What the next step may take. Its times are predicted from those of earlier steps; where there are none yet, rows
// alone count.
struct StepTime {
  double now_ms = 0.0;          // since any moment, the same for all budgets
  double alone_ms = 200.0;      // while nobody decodes; or
  double alone_fixed = 2.25;    // this many times as long as a step takes whatever its rows, if that is longer
  double beside_ms = 65.0;      // while somebody does; longer, in proportion, while more wait for their first token,
  double crowded_ms = 80.0;     // up to this; or
  double beside_decode = 2.25;  // this many times as long as the decoding rows alone would take, if that is longer
  int most_sequences = kMostSequences;  // while so many or more run, none starts
  bool drafts = true;
};

// What a step means to one sequence; timings are left to the engine.
struct SequenceEvent {
  RequestId id = 0;
  GenerateEvent event;                       // of a text its end: finish = length, or an error
  std::optional<std::size_t> text;           // which of the request's, where it encodes
  std::vector<float> row;                    // what is wanted of the text's last row
  PrefixHit hit;                             // with the first token, and with the end
  int draft_tokens = 0, draft_accepted = 0;  // of all its steps; as `hit`
};

class Scheduler {
 public:
  // The pool, and the tier below it if there is one, outlive it. `identity` is all that a block's bytes depend on but
  // tokens and salt. Throws Error invalid_option when a limit is out of range or they don't fit each other.
  Scheduler(SchedulerLimits limits, BlockPool* pool, std::vector<std::string> identity = {}, BlockTier* tier = nullptr);

  // From now on sequences draft; without it none does. Ids that the vocabulary has not are no drafts.
  void draft_with(std::unique_ptr<Drafter> drafter, int vocabulary);
  // Reached at "draft" and "verify".
  void set_failpoint(Failpoint failpoint) { failpoint_ = std::move(failpoint); }

  // Prompts are not empty, ids in range. The reply keeps to the guide. Throws Error request_cannot_fit when even an
  // empty pool has too few blocks.
  void add(GenerateRequest request, std::unique_ptr<TokenGuide> guide = nullptr);
  void add(TextSequence text);
  // Throws what add() throws for so many tokens.
  void require_room(std::size_t prompt_tokens, int max_tokens) const;
  // All sequences of the request. Between steps only. False when there is none.
  bool cancel(RequestId id);

  // Stops those above the first `most` by priority, then arrival, as if room were short, and offers what they have
  // computed to the tier below. How many. Between steps.
  int preempt_above(int most);

  // The next step, valid until commit() or fail_step(); no slices when there is nothing to do now.
  const StepPlan& plan(const StepTime& budget = {});
  const StepPlan& planned_step() const { return plan_; }
  // Of the last planned step.
  StepSize planned_size() const { return size_; }
  StepKind planned_kind() const;
  // The ends of those whose guide threw since this was last asked; the scheduler has forgotten them.
  std::vector<SequenceEvent> take_failed() { return std::exchange(failed_, {}); }
  // The requests in the planned step, [slices], in its order (twice or more, where several of its texts are); still
  // there after the step, until the next plan().
  std::span<const RequestId> planned() const { return planned_ids_; }
  // Takes in what the step computed. Events come in the order of the slices, at most one a sequence. When it throws,
  // every planned sequence still has its blocks, and fail_step() is to follow.
  std::vector<SequenceEvent> commit(const StepResult& result);
  // How long the last planned step took.
  void measured(double ms) { times_.observe(size_, ms); }
  // plan(), the device or commit() threw: the planned sequences are removed, the others go on. Allocates nothing.
  void fail_step();
  // From plan() to commit() or fail_step().
  bool in_step() const { return in_step_; }
  // The tier below has put the first `blocks` blocks of a run into their place: BlockTier::restore. Between steps.
  // Nothing happens when the sequence is gone.
  void restored(std::uint64_t id, int blocks);

  bool idle() const { return running_.empty() && waiting_.empty(); }
  int running() const { return static_cast<int>(running_.size()); }
  int running_texts() const;
  int waiting() const { return static_cast<int>(waiting_.size()); }
  KvStatus kv_status() const;
  const SpeculationStatus& speculation_status() const { return speculation_; }

 private:
  using SequencePtr = std::unique_ptr<Sequence>;
  struct Planned {
    Sequence* sequence = nullptr;
    std::size_t first_wanted = 0;  // in plan_.wanted
    std::size_t wanted_rows = 0;
    bool over = false;
    Draft proposed;  // what may come after its last token
    int drafts = 0;  // the first of these, whose rows are in the step

    // Whether the last of the sampled tokens is what the next row stands for.
    bool is_right(std::span<const SampledToken> sampled) const {
      return sampled.size() <= static_cast<std::size_t>(drafts) &&
             sampled.back().token == proposed.tokens[sampled.size() - 1];
    }
  };

  std::int64_t capacity_tokens() const;
  void check_shape(const StepResult& result) const;
  template <typename... Parts>
  void add(int priority, Parts... parts);
  void admit(double now_ms, int most_sequences);
  // Those that wait, in the order in which they start.
  std::vector<Sequence*> starting_order(double now_ms) const;
  enum class Admission { started, waits, no_room };
  Admission start(Sequence* sequence);
  bool has_room(const PrefixReuse::Found& found, int blocks) const;
  int growing() const;  // blocks that those that run may need any time
  void restore(Sequence* sequence, int first, int blocks);
  double compute_ms(int first, int blocks) const;
  void make_room_for_decoding();
  std::vector<SequencePtr>::iterator least_urgent();
  void preempt(Sequence* sequence);
  void take(Sequence* sequence);  // out of waiting_ into running_
  double planned_ms(const StepTime& budget, const StepSize& decoding) const;
  int chunk_rows(const Sequence& sequence, int most, double ms) const;
  void add_slice(Sequence* sequence, int rows, Draft proposed = {}, int drafts = 0);
  void add_text(const Sequence& sequence, int row);
  void add_score(const Sequence& sequence, int position, int row);
  void add_sampled(const Sequence& sequence, int row, std::span<const TokenId> drafts,
                   std::span<const std::uint32_t> allowed);
  void drop_failed();
  // Slice `index` of the step is computed; `rows` [W] are the whole step's.
  SequenceEvent advance(std::size_t index, std::span<const RowResult> rows);
  void take_token(Sequence* sequence, const RowResult& row, GenerateEvent* event);

  // scheduler_drafts.cpp
  void add_decoding(std::span<Sequence* const> decoding, const StepSize& size, bool drafts, double ms);
  Draft propose(Sequence* sequence);
  void reach(std::string_view phase, std::span<const TokenId> tokens) const;
  std::size_t usable(const Sequence& sequence, const Draft& draft) const;
  int give_blocks(Sequence* sequence, int drafts);
  void take_back_blocks(Sequence* sequence);
  // The masks of the row before the drafts and of each draft's, as far as the guide lets them come.
  std::vector<std::span<const std::uint32_t>> masks_of(Sequence* sequence, std::span<const TokenId> drafts);
  // Some tokens were sampled for the slice: what the drafts have left behind follows.
  void settle(const Planned& planned, const GenerateEvent& event);
  void lead_guide(Sequence* sequence, int drafts, int right, std::span<const SampledToken> sampled);
  void leave(const Sequence& sequence);
  void release(Sequence* sequence);
  void remove(Sequence* sequence);
  void end_step();

  const SchedulerLimits limits_;
  BlockPool* const pool_;
  BlockTier* const tier_;
  PrefixReuse reuse_;
  StepTimes times_;
  KvStatus counts_;
  std::uint64_t arrivals_ = 0, restores_ = 0;
  std::map<std::pair<int, std::uint64_t>, SequencePtr> waiting_;  // by priority, arrival
  std::vector<SequencePtr> running_;                              // by arrival
  std::vector<SequenceEvent> failed_;
  bool in_step_ = false;
  StepPlan plan_;
  StepSize size_;                              // of the last planned step
  std::array<bool, kStepKinds> carries_ = {};  // as size_; of `mixed` nothing
  std::vector<Planned> planned_;               // as plan_.slices
  std::vector<RequestId> planned_ids_;         // as plan_.slices
  // What single rows of the step sample by.
  std::deque<std::vector<TokenCount>> row_counts_;
  std::deque<std::vector<std::uint32_t>> row_masks_;

  std::unique_ptr<Drafter> drafter_;
  int vocabulary_ = 0;
  Failpoint failpoint_;
  Acceptance acceptance_{kKeptOfAll};
  SpeculationStatus speculation_;
  double right_ms_ = 0.0, draft_ms_ = 0.0;  // predicted: what a right draft of the planned step saves, what all take
};

}  // namespace cortex
