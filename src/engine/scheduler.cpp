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

void Scheduler::draft_with(std::unique_ptr<Drafter> drafter, int vocabulary) {
  drafter_ = std::move(drafter);
  vocabulary_ = vocabulary;
}

void Scheduler::add(GenerateRequest request, std::unique_ptr<TokenGuide> guide) {
  CORTEX_CHECK(!request.prompt.empty());
  CORTEX_CHECK(request.max_tokens >= 0);
  if (request.max_tokens_may_shrink && request.max_tokens > 0) {
    const auto room = capacity_tokens() - static_cast<std::int64_t>(request.prompt.size());
    request.max_tokens = static_cast<int>(std::clamp<std::int64_t>(room, 1, request.max_tokens));
  }
  require_room(request.prompt.size(), request.max_tokens);
  const int priority = request.priority;
  add(priority, std::move(request), std::move(guide));
}

void Scheduler::add(TextSequence text) {
  CORTEX_CHECK(!text.tokens.empty());
  require_room(text.tokens.size(), 0);
  const int priority = text.priority;
  add(priority, std::move(text));
}

template <typename... Parts>
void Scheduler::add(int priority, Parts... parts) {
  auto sequence = std::make_unique<Sequence>(arrivals_, std::move(parts)...);
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
  const auto waited = std::erase_if(waiting_, [&](const auto& entry) {
    if (entry.second->request.id != id) return false;
    leave(*entry.second);
    return true;
  });
  const auto ran = std::erase_if(running_, [&](const SequencePtr& sequence) {
    if (sequence->request.id != id) return false;
    release(sequence.get());
    leave(*sequence);
    return true;
  });
  return waited + ran > 0;
}

const StepPlan& Scheduler::plan(const StepTime& budget) {
  CORTEX_CHECK(!in_step_);
  in_step_ = true;
  size_ = {};
  carries_ = {};
  planned_ids_.clear();
  make_room_for_decoding();
  admit(budget.now_ms, std::min(budget.most_sequences, limits_.max_sequences));
  planned_.reserve(running_.size());
  planned_ids_.reserve(running_.size());
  std::vector<Sequence*> decoding;
  StepSize decoding_size;
  for (const SequencePtr& sequence : running_) {
    if (sequence->restore || sequence->failed || !sequence->decodes()) continue;
    decoding.push_back(sequence.get());
    const StepSize size = slice_size(sequence->computed, 1);
    decoding_size = {decoding_size.rows + size.rows, decoding_size.seen + size.seen};
  }
  const double ms = planned_ms(budget, decoding_size);
  add_decoding(decoding, decoding_size, budget.drafts, ms);
  for (const SequencePtr& sequence : running_) {
    if (sequence->restore || sequence->failed || sequence->decodes()) continue;
    const int rows = chunk_rows(*sequence, limits_.rows_per_step - size_.rows, ms);
    if (rows == 0) break;
    add_slice(sequence.get(), rows);
  }
  drop_failed();
  if (plan_.slices.empty()) end_step();
  return plan_;
}

StepKind Scheduler::planned_kind() const {
  const auto first = std::ranges::find(carries_, true);
  CORTEX_CHECK(first != carries_.end());
  if (std::ranges::count(carries_, true) > 1) return StepKind::mixed;
  return static_cast<StepKind>(first - carries_.begin());
}

// A sequence is removed only once nothing can throw any more: until then the step can still be failed whole.
std::vector<SequenceEvent> Scheduler::commit(const StepResult& result) {
  check_shape(result);
  std::vector<SequenceEvent> events;
  events.reserve(planned_.size());
  const std::uint64_t accepted = speculation_.accepted;
  for (std::size_t i = 0; i < planned_.size(); ++i) {
    SequenceEvent event = advance(i, result.rows);
    Sequence* sequence = planned_[i].sequence;
    planned_[i].over = event.event.last();
    if (planned_[i].over && !event.event.error) {
      reuse_.keep(sequence);
      leave(*sequence);
    }
    if (has_content(event.event)) events.push_back(std::move(event));
  }
  speculation_.saved_ms += static_cast<double>(speculation_.accepted - accepted) * right_ms_ - draft_ms_;
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
  return pool_->free_blocks() - static_cast<int>(unused) >= blocks + growing();
}

int Scheduler::growing() const {
  return static_cast<int>(
      std::ranges::count_if(running_, [](const SequencePtr& sequence) { return sequence->samples(); }));
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

double Scheduler::planned_ms(const StepTime& budget, const StepSize& decoding) const {
  // Where a step is slow however few rows it has, as when it reads its weights from disk, few don't pay.
  if (decoding.rows == 0) return std::max(budget.alone_ms, budget.alone_fixed * times_.predict_ms({}));
  const auto first_tokens = static_cast<double>(running() - decoding.rows + waiting());
  const double crowded = std::min(budget.beside_ms * first_tokens / decoding.rows, budget.crowded_ms);
  return std::max({budget.beside_ms, crowded, budget.beside_decode * times_.predict_ms(decoding)});
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

void Scheduler::drop_failed() {
  const auto failed = [](const SequencePtr& sequence) { return sequence->failed.has_value(); };
  for (auto it = std::ranges::find_if(running_, failed); it != running_.end();
       it = std::ranges::find_if(running_, failed)) {
    SequenceEvent event{(*it)->request.id, {}, {}, {}, {}};
    event.event.error = std::move((*it)->failed);
    failed_.push_back(std::move(event));
    remove(it->get());
  }
}

void Scheduler::remove(Sequence* sequence) {
  release(sequence);
  if (drafter_) drafter_->forget(sequence->arrival);
  std::erase_if(running_, [&](const SequencePtr& other) { return other.get() == sequence; });
}

void Scheduler::end_step() {
  in_step_ = false;
  plan_ = {};
  planned_.clear();
  row_counts_.clear();
  row_masks_.clear();
}

}  // namespace cortex
