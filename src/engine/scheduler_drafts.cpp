// What a step has of drafts: whose ride, the blocks and masks that their rows need, and what is left of them once it is
// known which were right.
#include <algorithm>

#include "engine/failure.h"
#include "engine/scheduler.h"
#include "engine/speculation.h"

namespace cortex {
namespace {

DraftContext context_of(const Sequence& sequence) {
  return {.sequence = sequence.arrival,
          .tokens = sequence.tokens,
          .prompt_tokens = static_cast<std::size_t>(sequence.prompt_tokens),
          .prediction = sequence.request.prediction,
          .salt = sequence.request.salt};
}

}  // namespace

void Scheduler::add_decoding(std::span<Sequence* const> decoding, const StepSize& size, bool drafts, double ms) {
  right_ms_ = draft_ms_ = 0.0;
  if (decoding.empty()) return;
  std::vector<Draft> proposed(decoding.size());
  std::vector<std::vector<double>> odds(decoding.size());
  for (std::size_t i = 0; drafts && i < decoding.size(); ++i) {
    proposed[i] = propose(decoding[i]);
    odds[i] = decoding[i]->acceptance.odds(proposed[i], acceptance_);
    odds[i].resize(usable(*decoding[i], proposed[i]));
  }
  const auto step_ms = [&](int more) {
    const int rows = size.rows + more;
    return times_.predict_sampling_ms({rows, size.seen * rows / size.rows, rows});
  };
  // Where prompts wait, half of the step is theirs, and at least one block.
  const bool prompts = static_cast<int>(decoding.size()) < running();
  const int rows = limits_.rows_per_step;
  const int most = prompts ? std::min(rows / 2, rows - kBlockTokens) : rows;
  const int room = std::max(std::min(most, times_.most_sampling_rows()) - size.rows, 0);
  const std::vector<int> lengths = draft_lengths(odds, room, ms, step_ms);
  int riding = 0;
  for (std::size_t i = 0; i < decoding.size(); ++i) {
    if (decoding[i]->failed) continue;
    const int blocked = give_blocks(decoding[i], lengths[i]);
    add_slice(decoding[i], 1, std::move(proposed[i]), blocked);
    if (!decoding[i]->failed) riding += planned_.back().drafts;
  }
  right_ms_ = step_ms(0) / size.rows;
  draft_ms_ = step_ms(riding) - step_ms(0);
}

// What a grammar makes certain comes first.
Draft Scheduler::propose(Sequence* sequence) {
  const int most = std::min(kMostDrafts, sequence->request.max_tokens - sequence->output_tokens() - 1);
  if (!drafter_ || !sequence->samples() || most < 1) return {};
  if (sequence->guide) {
    try {
      Draft forced{sequence->guide->forced(most), DraftSource::grammar, 0};
      if (!forced.tokens.empty()) return forced;
    } catch (...) {
      sequence->failed = caught_error();
      return {};
    }
  }
  if (!sequence->drafts) return {};
  try {
    reach("draft", sequence->tokens);
    Draft draft = drafter_->propose(context_of(*sequence), most);
    if (draft.tokens.size() > static_cast<std::size_t>(most)) draft.tokens.resize(static_cast<std::size_t>(most));
    return draft;
  } catch (...) {
    sequence->drafts = false;
    log_failure("a drafter failed", caught_error());
    return {};
  }
}

void Scheduler::reach(std::string_view phase, std::span<const TokenId> tokens) const {
  if (failpoint_) failpoint_(phase, tokens);
}

// A stop id is only ever sampled: its own row would tell nothing.
std::size_t Scheduler::usable(const Sequence& sequence, const Draft& draft) const {
  const auto& stops = sequence.request.stop_ids;
  const auto end = std::ranges::find_if(draft.tokens, [&](TokenId token) {
    return token < 0 || token >= vocabulary_ || std::ranges::find(stops, token) != stops.end();
  });
  return static_cast<std::size_t>(end - draft.tokens.begin());
}

// How many of the drafts have room.
int Scheduler::give_blocks(Sequence* sequence, int drafts) {
  const auto held = static_cast<int>(sequence->blocks.size());
  const auto tokens = static_cast<int>(sequence->tokens.size());
  const int spare = pool_->free_blocks() - growing();
  const int more = std::min((tokens + drafts + kBlockTokens - 1) / kBlockTokens - held, std::max(spare, 0));
  if (more > 0) {
    sequence->blocks.reserve(sequence->blocks.size() + static_cast<std::size_t>(more));
    for (int i = 0; i < more; ++i) sequence->blocks.push_back(pool_->allocate(1, sequence->blocks.back())->front());
  }
  return std::min(drafts, static_cast<int>(sequence->blocks.size()) * kBlockTokens - tokens);
}

void Scheduler::take_back_blocks(Sequence* sequence) {
  const auto needed = (sequence->tokens.size() + kBlockTokens - 1) / kBlockTokens;
  if (sequence->blocks.size() <= needed) return;
  pool_->release(std::span(sequence->blocks).subspan(needed));
  sequence->blocks.resize(needed);
}

std::vector<std::span<const std::uint32_t>> Scheduler::masks_of(Sequence* sequence, std::span<const TokenId> drafts) {
  std::vector<std::span<const std::uint32_t>> masks;
  masks.reserve(drafts.size() + 1);
  const auto add_mask = [&] {
    std::vector<std::uint32_t>& mask = row_masks_.emplace_back();
    sequence->guide->allow(&mask);
    masks.push_back(mask);
  };
  add_mask();
  for (const TokenId draft : drafts) {
    if (!sequence->guide->push(draft)) break;
    add_mask();
  }
  return masks;
}

void Scheduler::settle(const Planned& planned, const GenerateEvent& event) {
  Sequence* sequence = planned.sequence;
  const std::vector<SampledToken>& sampled = event.tokens;
  std::vector<TokenId> tokens;
  for (const SampledToken& token : sampled) tokens.push_back(token.token);
  if (planned.drafts > 0) reach("verify", tokens);
  // All but the last are drafts; so is that one where the reply ends with it.
  const int right = static_cast<int>(sampled.size()) - (planned.is_right(sampled) ? 0 : 1);
  // Each token but the last is a draft whose row is computed.
  sequence->computed += static_cast<int>(sampled.size()) - 1;
  take_back_blocks(sequence);
  sequence->acceptance.judge(planned.proposed, tokens);
  acceptance_.judge(planned.proposed, tokens);
  sequence->draft_tokens += planned.drafts;
  sequence->draft_accepted += right;
  ++speculation_.steps;
  speculation_.drafted += static_cast<std::uint64_t>(planned.drafts);
  speculation_.accepted += static_cast<std::uint64_t>(right);
  if (sequence->guide && !event.last()) lead_guide(sequence, planned.drafts, right, sampled);
}

// It stands behind the drafts: back to those that were right, and on to what was sampled after these.
void Scheduler::lead_guide(Sequence* sequence, int drafts, int right, std::span<const SampledToken> sampled) {
  if (right < drafts) sequence->guide->pop(drafts - right);
  if (static_cast<int>(sampled.size()) == right) return;
  CORTEX_CHECK(sequence->guide->push(sampled.back().token));
}

void Scheduler::leave(const Sequence& sequence) {
  if (!drafter_ || sequence.text) return;
  try {
    drafter_->finish(context_of(sequence));
  } catch (...) {
    log_failure("a drafter failed", caught_error());
  }
  drafter_->forget(sequence.arrival);
}

}  // namespace cortex
