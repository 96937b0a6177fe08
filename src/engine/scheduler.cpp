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

Scheduler::Scheduler(SchedulerLimits limits, BlockPool* pool) : limits_(limits), pool_(pool) {
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
  waiting_.emplace(std::pair(priority, arrivals_), std::make_unique<Sequence>(std::move(request), arrivals_));
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
    pool_->release(sequence->blocks);
    return true;
  });
  return waited + ran > 0;
}

const StepPlan& Scheduler::plan() {
  CORTEX_CHECK(!in_step_);
  in_step_ = true;
  planned_ids_.clear();
  admit();
  planned_.reserve(running_.size());
  planned_ids_.reserve(running_.size());
  int budget = limits_.rows_per_step;
  for (const SequencePtr& sequence : running_) {
    if (!sequence->decodes()) continue;
    add_slice(sequence.get(), 1);
    --budget;
  }
  for (const SequencePtr& sequence : running_) {
    if (sequence->decodes()) continue;
    const int rows = chunk_rows(*sequence, budget);
    if (rows == 0) break;
    add_slice(sequence.get(), rows);
    budget -= rows;
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
    planned_[i].over = event.event.last();
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

void Scheduler::admit() {
  while (!waiting_.empty() && running() < limits_.max_sequences) {
    Sequence& first = *waiting_.begin()->second;
    const auto needed = blocks_for(tokens_needed(first.tokens.size(), first.request.max_tokens));
    auto blocks = pool_->allocate(static_cast<int>(needed));
    if (!blocks) return;
    first.blocks = std::move(*blocks);
    const auto place = std::ranges::upper_bound(running_, first.arrival, {},
                                                [](const SequencePtr& sequence) { return sequence->arrival; });
    running_.insert(place, std::move(waiting_.begin()->second));
    waiting_.erase(waiting_.begin());
  }
}

int Scheduler::chunk_rows(const Sequence& sequence, int budget) const {
  if (sequence.remaining() <= budget) return sequence.remaining();
  const int end = (sequence.computed + budget) / kBlockTokens * kBlockTokens;
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
  SequenceEvent result{sequence->request.id, {}, sequence->text, {}};
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
      if (wanted.top_logprobs > 0) event.prompt_top_logprobs.push_back(rows[i].top_logprobs);
    }
  }
  if (sequence->request.max_tokens == 0 && sequence->remaining() == 0) event.finish = FinishReason::length;
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

void Scheduler::remove(const Sequence* sequence) {
  pool_->release(sequence->blocks);
  std::erase_if(running_, [&](const SequencePtr& other) { return other.get() == sequence; });
}

void Scheduler::end_step() {
  in_step_ = false;
  plan_ = {};
  planned_.clear();
}

}  // namespace cortex
