#include "engine/scheduler.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"

namespace cortex {
namespace {

std::int64_t tokens_needed(std::size_t prompt_tokens, int max_tokens) {
  return static_cast<std::int64_t>(prompt_tokens) + max_tokens;
}

std::int64_t blocks_for(std::int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

bool has_content(const GenerateEvent& event) {
  return event.last() || !event.tokens.empty() || !event.prompt_logprobs.empty();
}

}  // namespace

Scheduler::Scheduler(SchedulerLimits limits, BlockPool* pool, std::vector<std::string> identity, BlockTier* tier)
    : limits_(limits), pool_(pool), tier_(tier), reuse_(std::move(identity), pool, tier) {
  if (limits.max_sequences < 1 || limits.max_sequences > kMostSequences) {
    throw Error(ErrorCode::invalid_option,
                fmt::format("max_sequences: {} is not in [1, {}]", limits.max_sequences, kMostSequences));
  }
  if (limits.rows_per_step > kMostRowsPerStep) {
    throw Error(ErrorCode::invalid_option,
                fmt::format("rows_per_step: {} is above {}", limits.rows_per_step, kMostRowsPerStep));
  }
  if (limits.rows_per_step < limits.max_sequences + kBlockTokens) {
    throw Error(ErrorCode::invalid_option,
                fmt::format("rows_per_step: {} has no room for max_sequences ({}) and one block of prompt ({})",
                            limits.rows_per_step, limits.max_sequences, kBlockTokens));
  }
  running_.reserve(static_cast<std::size_t>(limits.max_sequences));  // so that what has its blocks surely runs
}

void Scheduler::add(GenerateRequest request) {
  CORTEX_CHECK(!request.prompt.empty());
  CORTEX_CHECK(request.max_tokens >= 0);
  if (request.max_tokens_may_shrink && request.max_tokens > 0) {
    const auto room = capacity_tokens() - static_cast<std::int64_t>(request.prompt.size());
    request.max_tokens = static_cast<int>(std::clamp<std::int64_t>(room, 1, request.max_tokens));
  }
  require_room(request.prompt.size(), request.max_tokens);
  const int priority = request.priority;
  add(std::move(request), priority);
}

void Scheduler::add(TextSequence text) {
  CORTEX_CHECK(!text.tokens.empty());
  require_room(text.tokens.size(), 0);
  const int priority = text.priority;
  add(std::move(text), priority);
}

template <typename Request>
void Scheduler::add(Request request, int priority) {
  auto sequence = std::make_unique<Sequence>(std::move(request), arrivals_);
  reuse_.name(sequence.get());
  waiting_.emplace(std::pair(priority, arrivals_), std::move(sequence));
  ++arrivals_;
}

void Scheduler::require_room(std::size_t prompt_tokens, int max_tokens) const {
  const std::int64_t needed = tokens_needed(prompt_tokens, max_tokens);
  if (blocks_for(needed) <= pool_->total_blocks()) return;
  throw Error(ErrorCode::request_cannot_fit,
              fmt::format("the request needs KV space for {} tokens (prompt {}, max_tokens {}); all there is holds {}",
                          needed, prompt_tokens, max_tokens, capacity_tokens()));
}

std::int64_t Scheduler::capacity_tokens() const {
  return static_cast<std::int64_t>(pool_->total_blocks()) * kBlockTokens;
}

bool Scheduler::cancel(RequestId id) {
  CORTEX_CHECK(!in_step_);
  const auto waited = std::erase_if(waiting_, [&](const auto& entry) { return entry.second->request.id == id; });
  const auto ran = std::erase_if(running_, [&](const SequencePtr& sequence) {
    if (sequence->request.id != id) return false;
    release(sequence.get());
    return true;
  });
  return waited + ran > 0;
}

const StepPlan& Scheduler::plan(const StepTime& budget) {
  CORTEX_CHECK(!in_step_);
  in_step_ = true;
  size_ = {};
  planned_ids_.clear();
  make_room_for_decoding();
  admit(budget.now_ms, std::min(budget.most_sequences, limits_.max_sequences));
  planned_.reserve(running_.size());
  planned_ids_.reserve(running_.size());
  for (const SequencePtr& sequence : running_) {
    if (!sequence->restore && sequence->decodes()) add_slice(sequence.get(), 1);
  }
  const double ms = planned_ms(budget);
  for (const SequencePtr& sequence : running_) {
    if (sequence->restore || sequence->decodes()) continue;
    const int rows = chunk_rows(*sequence, limits_.rows_per_step - size_.rows, ms);
    if (rows == 0) break;
    add_slice(sequence.get(), rows);
  }
  if (plan_.slices.empty()) end_step();
  return plan_;
}

// A sequence is removed only once nothing can throw any more: until then the step can still be failed whole.
std::vector<SequenceEvent> Scheduler::commit(const StepResult& result) {
  check_shape(result);
  std::vector<SequenceEvent> events;
  events.reserve(planned_.size());
  for (std::size_t i = 0; i < planned_.size(); ++i) {
    SequenceEvent event = advance(i, result.rows);
    Sequence* sequence = planned_[i].sequence;
    planned_[i].over = event.event.last();
    if (planned_[i].over && !event.event.error) reuse_.keep(sequence);
    if (has_content(event.event)) events.push_back(std::move(event));
  }
  for (const Planned& planned : planned_) {
    if (planned.over) remove(planned.sequence);
  }
  end_step();
  return events;
}

void Scheduler::fail_step() {
  CORTEX_CHECK(in_step_);
  for (const Planned& planned : planned_) remove(planned.sequence);
  end_step();
}

void Scheduler::check_shape(const StepResult& result) const {
  CORTEX_CHECK(in_step_ && result.rows.size() == plan_.wanted.size());
  for (std::size_t i = 0; i < result.rows.size(); ++i) {
    const RowResult& row = result.rows[i];
    CORTEX_CHECK(!row.finite || row.scores.size() == plan_.wanted[i].scores.size());
    CORTEX_CHECK(!row.finite || row.hidden.empty() != plan_.wanted[i].hidden);
    CORTEX_CHECK(!row.finite || !plan_.wanted[i].token || row.token >= 0);
  }
}

void Scheduler::admit(double now_ms, int most_sequences) {
  for (const auto& [key, sequence] : waiting_) {
    if (!sequence->waits_since_ms) sequence->waits_since_ms = now_ms;
  }
  if (waiting_.empty() || running() >= most_sequences) return;
  for (Sequence* sequence : starting_order(now_ms)) {
    if (running() >= most_sequences || start(sequence) == Admission::no_room) return;
  }
}

std::vector<Sequence*> Scheduler::starting_order(double now_ms) const {
  const auto overdue = [&](const Sequence& sequence) {
    return now_ms - sequence.waits_since_ms.value_or(now_ms) >= kLongestWaitMs;
  };
  std::vector<Sequence*> order;
  order.reserve(waiting_.size());
  for (const auto& [key, sequence] : waiting_) {
    if (overdue(*sequence)) order.push_back(sequence.get());
  }
  std::ranges::sort(order, {}, &Sequence::arrival);
  for (const auto& [key, sequence] : waiting_) {
    if (!overdue(*sequence)) order.push_back(sequence.get());
  }
  return order;
}

Scheduler::Admission Scheduler::start(Sequence* sequence) {
  const PrefixReuse::Found found =
      reuse_.find(sequence, [this](int first, int blocks) { return compute_ms(first, blocks); });
  if (found.coming) return Admission::waits;
  const auto hits = static_cast<int>(found.blocks.size());
  const int needed = static_cast<int>(blocks_for(static_cast<std::int64_t>(sequence->tokens.size()))) - hits;
  while (!has_room(found, needed)) {
    if (tier_ == nullptr || !tier_->give_up()) return Admission::no_room;
  }
  if (!sequence->started_before) {
    counts_.query_tokens += sequence->tokens.size();
    counts_.memory_hit_tokens += static_cast<std::uint64_t>(hits) * kBlockTokens;
    sequence->hit.memory_tokens = hits * kBlockTokens;
    if (sequence->request.explain) sequence->hit.explanation = reuse_.explain(*sequence, found, running_);
  }
  std::vector<BlockId> blocks = found.blocks;
  blocks.reserve(found.blocks.size() + static_cast<std::size_t>(needed));
  pool_->retain(found.blocks);
  sequence->blocks = std::move(blocks);
  sequence->computed = hits * kBlockTokens;
  sequence->started_before = true;
  take(sequence);
  const auto fresh = pool_->allocate(needed).value();
  sequence->blocks.insert(sequence->blocks.end(), fresh.begin(), fresh.end());
  reuse_.start(sequence);
  if (found.below > 0) restore(sequence, hits, found.below);
  return Admission::started;
}

void Scheduler::restore(Sequence* sequence, int first, int blocks) {
  const auto end = static_cast<std::size_t>(first) + static_cast<std::size_t>(blocks);
  const auto chain = std::span(sequence->keys).first(end);
  const auto tokens = std::span(sequence->tokens).first(end * kBlockTokens);
  const auto into = std::span(sequence->blocks).first(end).last(static_cast<std::size_t>(blocks));
  tier_->restore(++restores_, {.root = sequence->root,
                               .chain = {chain.begin(), chain.end()},
                               .tokens = {tokens.begin(), tokens.end()},
                               .first = first,
                               .blocks = {into.begin(), into.end()}});
  sequence->restore = restores_;
}

// Each that generates may need a block any time.
bool Scheduler::has_room(const PrefixReuse::Found& found, int blocks) const {
  const auto unused = std::ranges::count_if(found.blocks, [&](BlockId block) { return pool_->references(block) == 0; });
  const auto growing = std::ranges::count_if(
      running_, [](const SequencePtr& sequence) { return !sequence->text && sequence->request.max_tokens > 0; });
  return pool_->free_blocks() - static_cast<int>(unused) >= blocks + static_cast<int>(growing);
}

double Scheduler::compute_ms(int first, int blocks) const {
  return times_.predict_ms(slice_size(first * kBlockTokens, blocks * kBlockTokens));
}

void Scheduler::take(Sequence* sequence) {
  const auto node = waiting_.find(std::pair(sequence->request.priority, sequence->arrival));
  const auto place = std::ranges::upper_bound(running_, sequence->arrival, {},
                                              [](const SequencePtr& other) { return other->arrival; });
  running_.insert(place, std::move(node->second));
  waiting_.erase(node);
}

void Scheduler::restored(std::uint64_t id, int blocks) {
  CORTEX_CHECK(!in_step_);
  const auto it = std::ranges::find_if(running_, [&](const SequencePtr& sequence) { return sequence->restore == id; });
  if (it == running_.end()) return;
  Sequence& sequence = **it;
  sequence.restore.reset();
  sequence.computed += blocks * kBlockTokens;
  if (sequence.hit.disk_tokens == 0) {
    sequence.hit.disk_tokens = blocks * kBlockTokens;
    counts_.disk_hit_tokens += static_cast<std::uint64_t>(blocks) * kBlockTokens;
  }
  reuse_.publish(&sequence);
}

// Before anything is planned, so that no slice loses its blocks.
void Scheduler::make_room_for_decoding() {
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i].get();
    if (blocks_for(static_cast<std::int64_t>(sequence->tokens.size())) <=
        static_cast<std::int64_t>(sequence->blocks.size())) {
      continue;
    }
    sequence->blocks.reserve(sequence->blocks.size() + 1);
    auto block = pool_->allocate(1, sequence->blocks.back());
    while (!block) {
      if (tier_ == nullptr || !tier_->give_up()) {
        const auto youngest = least_urgent();
        const bool itself = youngest->get() == sequence;
        const bool before = youngest - running_.begin() < static_cast<std::ptrdiff_t>(i);
        preempt(youngest->get());
        if (itself || before) --i;
        if (itself) break;
      }
      block = pool_->allocate(1, sequence->blocks.back());
    }
    if (block) sequence->blocks.push_back(block->front());
  }
}

std::vector<Scheduler::SequencePtr>::iterator Scheduler::least_urgent() {
  return std::ranges::max_element(
      running_, {}, [](const SequencePtr& other) { return std::pair(other->request.priority, other->arrival); });
}

int Scheduler::preempt_above(int most) {
  CORTEX_CHECK(!in_step_);
  int stopped = 0;
  for (; running() > most; ++stopped) {
    Sequence* sequence = least_urgent()->get();
    reuse_.keep(sequence);
    preempt(sequence);
  }
  return stopped;
}

void Scheduler::preempt(Sequence* sequence) {
  auto& place = waiting_[std::pair(sequence->request.priority, sequence->arrival)];
  release(sequence);
  sequence->blocks.clear();
  sequence->computed = sequence->published = 0;
  sequence->waits_since_ms.reset();
  const auto it = std::ranges::find_if(running_, [&](const SequencePtr& other) { return other.get() == sequence; });
  place = std::move(*it);
  running_.erase(it);
  ++counts_.preemptions;
}

double Scheduler::planned_ms(const StepTime& budget) const {
  if (size_.rows == 0) return budget.alone_ms;
  const auto first_tokens = static_cast<double>(running() - size_.rows + waiting());
  const double crowded = std::min(budget.beside_ms * first_tokens / size_.rows, budget.crowded_ms);
  return std::max({budget.beside_ms, crowded, budget.beside_decode * times_.predict_ms(size_)});
}

int Scheduler::chunk_rows(const Sequence& sequence, int most, double ms) const {
  most = std::min(most, sequence.remaining());
  int rows = times_.rows_within(ms, size_, sequence.computed, most, kBlockTokens);
  // However long it takes, some prompt gets on.
  const bool first = planned_.empty() || planned_.back().sequence->decodes();
  if (first) rows = std::max(rows, std::min(most, kBlockTokens));
  if (rows == sequence.remaining()) return rows;
  const int end = (sequence.computed + rows) / kBlockTokens * kBlockTokens;
  return std::max(end - sequence.computed, 0);
}

void Scheduler::add_slice(Sequence* sequence, int rows) {
  const std::size_t first_wanted = plan_.wanted.size();
  planned_.push_back({sequence, first_wanted});
  planned_ids_.push_back(sequence->request.id);
  SequenceSlice slice;
  slice.first_row = static_cast<int>(plan_.tokens.size());
  slice.rows = rows;
  slice.start = sequence->computed;
  slice.blocks = sequence->blocks;
  plan_.slices.push_back(slice);
  const auto first = sequence->tokens.begin() + sequence->computed;
  plan_.tokens.insert(plan_.tokens.end(), first, first + rows);
  const StepSize size = slice_size(slice.start, rows);
  size_ = {size_.rows + size.rows, size_.seen + size.seen};
  for (int i = 0; i < rows; ++i) add_wanted(*sequence, slice.start + i, slice.first_row + i);
  planned_.back().wanted_rows = plan_.wanted.size() - first_wanted;
}

void Scheduler::add_wanted(const Sequence& sequence, int position, int row) {
  const GenerateRequest& request = sequence.request;
  const bool last = position + 1 == static_cast<int>(sequence.tokens.size());
  WantedRow wanted;
  wanted.row = row;
  if (sequence.text && last) {
    wanted.scores = sequence.scores;
    wanted.hidden = sequence.scores.empty();
  } else if (request.prompt_logprobs && position + 1 < sequence.prompt_tokens) {
    if (position < sequence.scored) return;  // before it was preempted
    wanted.scores = std::span(sequence.tokens).subspan(static_cast<std::size_t>(position) + 1, 1);
    wanted.top_logprobs = request.logprobs ? request.top_logprobs : 0;
  } else if (last && request.max_tokens > 0) {
    wanted.token = true;
    wanted.top_logprobs = request.logprobs ? request.top_logprobs : 0;
    wanted.sampling.params = request.sampling;
    wanted.sampling.position = position + 1;
    wanted.sampling.logit_bias = request.logit_bias;
    wanted.sampling.counts = sequence.counts.counts();
  } else {
    return;
  }
  plan_.wanted.push_back(wanted);
}

SequenceEvent Scheduler::advance(std::size_t index, std::span<const RowResult> rows) {
  const SequenceSlice& slice = plan_.slices[index];
  const auto [sequence, first_wanted, wanted_rows, over] = planned_[index];
  SequenceEvent result{sequence->request.id, {}, sequence->text, {}, {}};
  GenerateEvent& event = result.event;
  sequence->computed += slice.rows;
  for (std::size_t i = first_wanted; i < first_wanted + wanted_rows; ++i) {
    const WantedRow& wanted = plan_.wanted[i];
    if (!rows[i].finite) {
      event = {};
      event.error = Error(ErrorCode::numerical_error,
                          fmt::format("the model gave a non-finite number for the token at position {}",
                                      slice.start + wanted.row - slice.first_row + 1));
      return result;
    }
    if (sequence->text) {
      result.row = wanted.hidden ? rows[i].hidden : rows[i].scores;
    } else if (wanted.token) {
      take_token(sequence, rows[i], &event);
    } else {
      event.prompt_logprobs.push_back(rows[i].scores.front());
      ++sequence->scored;
      if (wanted.top_logprobs > 0) event.prompt_top_logprobs.push_back(rows[i].top_logprobs);
    }
  }
  if (sequence->request.max_tokens == 0 && sequence->remaining() == 0) event.finish = FinishReason::length;
  reuse_.publish(sequence);
  const bool ends_prompt = slice.start < sequence->prompt_tokens && sequence->computed >= sequence->prompt_tokens;
  if (ends_prompt) reuse_.keep(sequence);
  if (sequence->output_tokens() <= 1 || event.last()) result.hit = sequence->hit;
  return result;
}

void Scheduler::take_token(Sequence* sequence, const RowResult& row, GenerateEvent* event) {
  const GenerateRequest& request = sequence->request;
  sequence->tokens.push_back(row.token);
  if (has_penalties(request.sampling)) sequence->counts.add_output(row.token);
  event->tokens.push_back({row.token, row.logprob, row.top_logprobs});
  if (std::ranges::find(request.stop_ids, row.token) != request.stop_ids.end()) {
    event->finish = FinishReason::stop;
  } else if (sequence->output_tokens() >= request.max_tokens) {
    event->finish = FinishReason::length;
  }
}

int Scheduler::running_texts() const {
  return static_cast<int>(
      std::ranges::count_if(running_, [](const SequencePtr& sequence) { return sequence->text.has_value(); }));
}

KvStatus Scheduler::kv_status() const {
  KvStatus status = counts_;
  status.blocks = pool_->total_blocks();
  status.blocks_used = pool_->used_blocks();
  status.blocks_cached = pool_->cached_blocks();
  status.running = running();
  status.waiting = waiting();
  return status;
}

void Scheduler::release(Sequence* sequence) {
  if (sequence->restore) tier_->forget(*sequence->restore);
  sequence->restore.reset();
  reuse_.stop(sequence);
  pool_->release(sequence->blocks);
}

void Scheduler::remove(Sequence* sequence) {
  release(sequence);
  std::erase_if(running_, [&](const SequencePtr& other) { return other.get() == sequence; });
}

void Scheduler::end_step() {
  in_step_ = false;
  plan_ = {};
  planned_.clear();
}

}  // namespace cortex
