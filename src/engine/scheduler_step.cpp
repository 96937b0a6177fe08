// What a step computes of one sequence, and what its result means to it.
#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"
#include "engine/failure.h"
#include "engine/scheduler.h"

namespace cortex {
namespace {

StepKind kind_of(const Sequence& sequence) {
  if (sequence.text) return StepKind::encode;
  return sequence.decodes() && sequence.output_tokens() > 0 ? StepKind::decode : StepKind::prompt;
}

}  // namespace

void Scheduler::add_slice(Sequence* sequence, int rows, Draft proposed, int drafts) {
  const std::size_t first_wanted = plan_.wanted.size();
  planned_.push_back({sequence, first_wanted, 0, false, std::move(proposed)});
  planned_ids_.push_back(sequence->request.id);
  Planned& planned = planned_.back();
  const bool samples = rows == sequence->remaining() && sequence->samples();
  std::vector<std::span<const std::uint32_t>> masks(static_cast<std::size_t>(samples ? drafts + 1 : 0));
  if (samples && sequence->guide) {
    try {
      masks = masks_of(sequence, std::span(planned.proposed.tokens).first(static_cast<std::size_t>(drafts)));
    } catch (...) {
      sequence->failed = caught_error();
      planned_.pop_back();
      planned_ids_.pop_back();
      return;
    }
    drafts = static_cast<int>(masks.size()) - 1;
  }
  planned.drafts = drafts;
  const auto riding = std::span(planned.proposed.tokens).first(static_cast<std::size_t>(drafts));
  SequenceSlice slice;
  slice.first_row = static_cast<int>(plan_.tokens.size());
  slice.rows = rows + drafts;
  slice.start = sequence->computed;
  slice.blocks = sequence->blocks;
  plan_.slices.push_back(slice);
  const auto first = sequence->tokens.begin() + sequence->computed;
  plan_.tokens.insert(plan_.tokens.end(), first, first + rows);
  plan_.tokens.insert(plan_.tokens.end(), riding.begin(), riding.end());
  const StepSize size = slice_size(slice.start, slice.rows);
  size_ = {size_.rows + size.rows, size_.seen + size.seen, size_.sampled + static_cast<int>(masks.size())};
  const int certain = samples ? rows - 1 : rows;
  for (int i = 0; i < certain; ++i) add_score(*sequence, slice.start + i, slice.first_row + i);
  if (sequence->text && rows == sequence->remaining()) add_text(*sequence, slice.first_row + rows - 1);
  for (std::size_t i = 0; i < masks.size(); ++i) {
    add_sampled(*sequence, slice.first_row + certain + static_cast<int>(i), riding.first(i), masks[i]);
  }
  planned.wanted_rows = plan_.wanted.size() - first_wanted;
  carries_[static_cast<std::size_t>(kind_of(*sequence))] = true;
}

void Scheduler::add_text(const Sequence& sequence, int row) {
  WantedRow wanted;
  wanted.row = row;
  wanted.scores = sequence.scores;
  wanted.hidden = sequence.scores.empty();
  plan_.wanted.push_back(wanted);
}

void Scheduler::add_score(const Sequence& sequence, int position, int row) {
  const GenerateRequest& request = sequence.request;
  if (!request.prompt_logprobs || position + 1 >= sequence.prompt_tokens) return;
  if (position < sequence.scored) return;  // before it was preempted
  WantedRow wanted;
  wanted.row = row;
  wanted.scores = std::span(sequence.tokens).subspan(static_cast<std::size_t>(position) + 1, 1);
  wanted.top_logprobs = request.logprobs ? request.top_logprobs : 0;
  plan_.wanted.push_back(wanted);
}

// The row behind `drafts`, which stand behind the sequence's tokens.
void Scheduler::add_sampled(const Sequence& sequence, int row, std::span<const TokenId> drafts,
                            std::span<const std::uint32_t> allowed) {
  const GenerateRequest& request = sequence.request;
  WantedRow wanted;
  wanted.row = row;
  wanted.token = true;
  wanted.top_logprobs = request.logprobs ? request.top_logprobs : 0;
  wanted.sampling.params = request.sampling;
  wanted.sampling.position = static_cast<std::int64_t>(sequence.tokens.size() + drafts.size());
  wanted.sampling.logit_bias = request.logit_bias;
  wanted.sampling.counts = sequence.counts.counts();
  wanted.sampling.allowed = allowed;
  if (!drafts.empty() && has_penalties(request.sampling)) {
    wanted.sampling.counts = row_counts_.emplace_back(sequence.counts.counts_with(drafts));
  }
  plan_.wanted.push_back(wanted);
}

SequenceEvent Scheduler::advance(std::size_t index, std::span<const RowResult> rows) {
  const SequenceSlice& slice = plan_.slices[index];
  const Planned& planned = planned_[index];
  Sequence* sequence = planned.sequence;
  SequenceEvent result{sequence->request.id, {}, sequence->text, {}, {}};
  GenerateEvent& event = result.event;
  const bool first = sequence->output_tokens() == 0;
  const int start = sequence->computed;
  sequence->computed += slice.rows - planned.drafts;
  for (std::size_t i = planned.first_wanted; i < planned.first_wanted + planned.wanted_rows; ++i) {
    const WantedRow& wanted = plan_.wanted[i];
    if (!rows[i].finite) {
      if (!event.tokens.empty()) break;  // the next step meets it with nothing before it
      event = {};
      event.error = Error(ErrorCode::numerical_error,
                          fmt::format("the model gave a non-finite number for the token at position {}",
                                      start + wanted.row - slice.first_row + 1));
      return result;
    }
    if (sequence->text) {
      result.row = wanted.hidden ? rows[i].hidden : rows[i].scores;
    } else if (wanted.token) {
      take_token(sequence, rows[i], &event);
      if (event.last() || !planned.is_right(event.tokens)) break;
    } else {
      event.prompt_logprobs.push_back(rows[i].scores.front());
      ++sequence->scored;
      if (wanted.top_logprobs > 0) event.prompt_top_logprobs.push_back(rows[i].top_logprobs);
    }
  }
  if (!event.tokens.empty()) {
    try {
      settle(planned, event);
    } catch (...) {
      event = {};
      event.error = caught_error();
    }
  }
  if (sequence->request.max_tokens == 0 && sequence->remaining() == 0) event.finish = FinishReason::length;
  reuse_.publish(sequence);
  const bool ends_prompt = start < sequence->prompt_tokens && sequence->computed >= sequence->prompt_tokens;
  if (ends_prompt) reuse_.keep(sequence);
  if (first || event.last()) {
    result.hit = sequence->hit;
    result.draft_tokens = sequence->draft_tokens;
    result.draft_accepted = sequence->draft_accepted;
  }
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

void Scheduler::check_shape(const StepResult& result) const {
  CORTEX_CHECK(in_step_ && result.rows.size() == plan_.wanted.size());
  for (std::size_t i = 0; i < result.rows.size(); ++i) {
    const RowResult& row = result.rows[i];
    CORTEX_CHECK(!row.finite || row.scores.size() == plan_.wanted[i].scores.size());
    CORTEX_CHECK(!row.finite || row.hidden.empty() != plan_.wanted[i].hidden);
    CORTEX_CHECK(!row.finite || !plan_.wanted[i].token || row.token >= 0);
  }
}

}  // namespace cortex
