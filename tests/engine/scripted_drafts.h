// Drafters and guides that do as a test says, and a scheduler that has learnt what its steps take.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/drafter.h"
#include "engine/scheduler.h"
#include "engine/token_guide.h"
#include "kv/block_pool.h"

namespace cortex {

inline constexpr int kVocabulary = 64;

// Proposes what it is told to.
class ScriptedDrafter : public Drafter {
 public:
  using Script = std::function<Draft(const DraftContext& context, int most)>;
  explicit ScriptedDrafter(Script script) : script_(std::move(script)) {}
  Draft propose(const DraftContext& context, int most) override { return script_(context, most); }
  void finish(const DraftContext& context) override {
    finished.emplace_back(context.tokens.begin(), context.tokens.end());
  }
  void forget(std::uint64_t sequence) noexcept override { last_forgotten = sequence; }

  std::vector<std::vector<TokenId>> finished;
  std::uint64_t last_forgotten = ~std::uint64_t{0};

 private:
  Script script_;
};

inline std::unique_ptr<Drafter> always(const std::vector<TokenId>& tokens, int matched = 40) {
  return std::make_unique<ScriptedDrafter>(
      [=](const DraftContext&, int) { return Draft{tokens, DraftSource::context, matched}; });
}

// Allows the tokens of a text in turn, and `also` anywhere.
class ScriptedGuide : public TokenGuide {
 public:
  ScriptedGuide(std::vector<TokenId> text, std::optional<TokenId> also = {}, int forced = 0)
      : text_(std::move(text)), also_(also), forced_(forced) {}
  void allow(std::vector<std::uint32_t>* mask) override {
    if (throws_at == static_cast<int>(pushed_.size())) throw Error(ErrorCode::invalid_grammar, "too much");
    mask->assign(kVocabulary / 32, 0);
    for (TokenId token = 0; token < kVocabulary; ++token) {
      if (may(token)) (*mask)[static_cast<std::size_t>(token) / 32] |= 1u << (token % 32);
    }
  }
  bool push(TokenId token) override {
    if (!may(token)) return false;
    pushed_.push_back(token);
    return true;
  }
  void pop(int tokens) override {
    ASSERT_LE(tokens, static_cast<int>(pushed_.size()));
    pushed_.resize(pushed_.size() - static_cast<std::size_t>(tokens));
  }
  std::vector<TokenId> forced(int most) override {
    std::vector<TokenId> tokens;
    for (std::size_t i = pushed_.size(); i < text_.size() && static_cast<int>(tokens.size()) < std::min(most, forced_);
         ++i) {
      tokens.push_back(text_[i]);
    }
    return tokens;
  }
  int throws_at = -1;

 private:
  bool may(TokenId token) const {
    return token == also_ || (pushed_.size() < text_.size() ? token == text_[pushed_.size()] : token == 1);
  }

  const std::vector<TokenId> text_;
  const std::optional<TokenId> also_;
  const int forced_;
  std::vector<TokenId> pushed_;
};

inline GenerateRequest asking(RequestId id, int prompt_tokens, int max_tokens) {
  GenerateRequest made;
  made.id = id;
  for (int i = 0; i < prompt_tokens; ++i)
    made.prompt.push_back(static_cast<TokenId>((id * 7 + static_cast<unsigned>(i * i)) % kVocabulary));
  made.max_tokens = max_tokens;
  made.sampling.temperature = 0.0f;
  return made;
}

// The rows of the step sample these.
inline StepResult answer(const StepPlan& plan, const std::vector<TokenId>& tokens) {
  StepResult result;
  EXPECT_EQ(plan.wanted.size(), tokens.size());
  for (const TokenId token : tokens) result.rows.push_back({.token = token});
  return result;
}

inline std::vector<TokenId> tokens_of(const SequenceEvent& event) {
  std::vector<TokenId> tokens;
  for (const SampledToken& token : event.event.tokens) tokens.push_back(token.token);
  return tokens;
}

// A scheduler that knows its steps, up to those of two dozen rows: 10 ms and 0.1 ms a row.
struct Taught {
  explicit Taught(int blocks, SchedulerLimits limits = {128, 8}) : pool(blocks), scheduler(limits, &pool) {
    scheduler.draft_with(always(std::vector<TokenId>(21, 0)), kVocabulary);
    scheduler.add(asking(1000, 20, 40));
    while (!scheduler.idle()) commit(std::vector<TokenId>(scheduler.plan().wanted.size(), 0));
    pool.evict(blocks);
    scheduler.draft_with(nullptr, 0);
    before = scheduler.speculation_status();
  }
  SpeculationStatus speculation() const {
    const SpeculationStatus& now = scheduler.speculation_status();
    return {now.steps - before.steps, now.drafted - before.drafted, now.accepted - before.accepted,
            now.saved_ms - before.saved_ms};
  }
  std::vector<SequenceEvent> commit(const std::vector<TokenId>& tokens) {
    scheduler.measured(10.0 + 0.1 * scheduler.planned_size().rows);
    return scheduler.commit(answer(scheduler.planned_step(), tokens));
  }

  BlockPool pool;
  Scheduler scheduler;
  SpeculationStatus before;
};

}  // namespace cortex
