// Drafts in the scheduler's steps: which rows ride, into which blocks, by which penalties and masks; what is kept of
// them; and that nothing that is said depends on them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>

#include "backend/sampler.h"
#include "base/error.h"
#include "engine/scheduler.h"
#include "engine/suffix_drafter.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kVocabulary = 64;

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

std::unique_ptr<Drafter> always(const std::vector<TokenId>& tokens, int matched = 40) {
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

GenerateRequest request(RequestId id, int prompt_tokens, int max_tokens) {
  GenerateRequest made;
  made.id = id;
  for (int i = 0; i < prompt_tokens; ++i)
    made.prompt.push_back(static_cast<TokenId>((id * 7 + static_cast<unsigned>(i * i)) % kVocabulary));
  made.max_tokens = max_tokens;
  made.sampling.temperature = 0.0f;
  return made;
}

std::vector<std::string> slices_of(const StepPlan& plan) {
  std::vector<std::string> slices;
  for (const SequenceSlice& slice : plan.slices) {
    std::string text = std::to_string(slice.start) + "+" + std::to_string(slice.rows) + "[";
    for (std::size_t i = 0; i < slice.blocks.size(); ++i) text += (i ? " " : "") + std::to_string(slice.blocks[i]);
    slices.push_back(text + "]");
  }
  return slices;
}

// The rows of the step sample these.
StepResult answer(const StepPlan& plan, const std::vector<TokenId>& tokens) {
  StepResult result;
  EXPECT_EQ(plan.wanted.size(), tokens.size());
  for (const TokenId token : tokens) result.rows.push_back({.token = token});
  return result;
}

std::vector<TokenId> tokens_of(const SequenceEvent& event) {
  std::vector<TokenId> tokens;
  for (const SampledToken& token : event.event.tokens) tokens.push_back(token.token);
  return tokens;
}

// A scheduler that knows its steps, up to those of two dozen rows: 10 ms and 0.1 ms a row.
struct Taught {
  explicit Taught(int blocks, SchedulerLimits limits = {128, 8}) : pool(blocks), scheduler(limits, &pool) {
    scheduler.draft_with(always(std::vector<TokenId>(21, 0)), kVocabulary);
    scheduler.add(request(1000, 20, 40));
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

TEST(SchedulerDrafts, RideBehindTheLastTokenAndAreKeptWhileTheyAreRight) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 2, 3, 4}), kVocabulary);
  t.scheduler.add(request(1, 20, 30));
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("0+20[0 1]"));  // the step that ends the prompt has no drafts
  t.commit({9});
  const StepPlan& plan = t.scheduler.plan();
  EXPECT_THAT(slices_of(plan), ElementsAre("20+5[0 1]"));
  EXPECT_THAT(plan.tokens, ElementsAre(9, 1, 2, 3, 4));
  ASSERT_EQ(plan.wanted.size(), 5u);
  for (int i = 0; i < 5; ++i) {
    const WantedRow& wanted = plan.wanted[static_cast<std::size_t>(i)];
    EXPECT_EQ(wanted.row, i);
    EXPECT_TRUE(wanted.token);
    EXPECT_EQ(wanted.sampling.position, 21 + i);
  }
  EXPECT_FALSE(t.scheduler.planned_prompt());
  const auto events = t.commit({1, 2, 7, 4, 5});  // two are right; what follows a wrong one counts for nothing
  ASSERT_EQ(events.size(), 1u);
  EXPECT_THAT(tokens_of(events[0]), ElementsAre(1, 2, 7));
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("23+5[0 1]"));
  EXPECT_EQ(t.scheduler.planned_step().tokens[0], 7);
  EXPECT_THAT(tokens_of(t.commit({1, 2, 3, 4, 5})[0]), ElementsAre(1, 2, 3, 4, 5));  // all, and one more
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("28+5[0 1 2]"));
  EXPECT_EQ(t.pool.used_blocks(), 3);
  EXPECT_THAT(tokens_of(t.commit({0, 0, 0, 0, 0})[0]), ElementsAre(0));
  EXPECT_EQ(t.pool.used_blocks(), 2);  // what only drafts needed is back
  EXPECT_EQ(t.speculation().drafted, 12u);
  EXPECT_EQ(t.speculation().accepted, 6u);
  EXPECT_EQ(t.speculation().steps, 4u);
  EXPECT_NEAR(t.speculation().saved_ms, 6 * 10.1 - 12 * 0.1, 1.0);
}

TEST(SchedulerDrafts, StopIdsAndMaxTokensHold) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 2, 3, 4}), kVocabulary);
  auto stopping = request(1, 20, 30);
  stopping.stop_ids = {3};
  t.scheduler.add(stopping);
  t.scheduler.plan();
  t.commit({9});
  EXPECT_THAT(t.scheduler.plan().tokens, ElementsAre(9, 1, 2));  // a stop id has no row
  auto events = t.commit({1, 3, 5});
  EXPECT_THAT(tokens_of(events[0]), ElementsAre(1, 3));
  EXPECT_EQ(events[0].event.finish, FinishReason::stop);
  EXPECT_EQ(events[0].draft_tokens, 2);
  EXPECT_EQ(events[0].draft_accepted, 1);
  EXPECT_TRUE(t.scheduler.idle());
  EXPECT_EQ(t.pool.used_blocks(), 0);

  t.scheduler.add(request(2, 20, 4));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_THAT(t.scheduler.plan().tokens, ElementsAre(9, 1, 2));  // three are left: the last one needs no row
  events = t.commit({1, 2, 3});
  EXPECT_THAT(tokens_of(events[0]), ElementsAre(1, 2, 3));
  EXPECT_EQ(events[0].event.finish, FinishReason::length);
  EXPECT_TRUE(t.scheduler.idle());
}

TEST(SchedulerDrafts, TakeNoBlocksThatOthersNeed) {
  Taught t(4);
  t.scheduler.draft_with(always({1, 2, 3, 4}), kVocabulary);
  t.scheduler.add(request(1, 14, 30));
  t.scheduler.add(request(2, 15, 17));
  t.scheduler.plan();
  t.commit({9, 9});
  // 14 + 1 tokens leave one place in a block, and the two free blocks are what the two grow into.
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("14+2[0]", "15+1[1]"));
  t.commit({0, 1, 0});
  EXPECT_EQ(t.scheduler.kv_status().preemptions, 0u);
}

TEST(SchedulerDrafts, LeavePromptsTheirRows) {
  Taught t(32, {24, 4});
  t.scheduler.draft_with(always(std::vector<TokenId>(20, 5)), kVocabulary);
  t.scheduler.add(request(1, 4, 40));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_EQ(t.scheduler.plan().slices[0].rows, 21);
  t.commit(std::vector<TokenId>(21, 6));
  t.scheduler.add(request(2, 64, 40));
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("5+8[0]", "0+16[1 2 3 4]"));
  EXPECT_TRUE(t.scheduler.planned_prompt());
}

TEST(SchedulerDrafts, LeavePromptsHalfOfALargeStep) {
  Taught t(32, {64, 4});
  t.scheduler.draft_with(always(std::vector<TokenId>(40, 5)), kVocabulary);
  t.scheduler.add(request(1, 4, 100));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_EQ(t.scheduler.plan().slices[0].rows, 33);
  t.commit(std::vector<TokenId>(33, 5));
  t.scheduler.add(request(2, 64, 40));
  const auto slices = t.scheduler.plan().slices;
  EXPECT_EQ(slices[0].rows, 32);
  EXPECT_EQ(slices.at(1).rows, 32);
}

TEST(SchedulerDrafts, ABudgetForbidsThem) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 2}), kVocabulary);
  t.scheduler.add(request(1, 20, 30));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_THAT(slices_of(t.scheduler.plan({.drafts = false})), ElementsAre("20+1[0 1]"));
  t.commit({1});
  EXPECT_THAT(slices_of(t.scheduler.plan()), ElementsAre("21+3[0 1]"));
}

TEST(SchedulerDrafts, EachRowHasThePenaltiesOfItsPlace) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 9, 1}), kVocabulary);
  auto penalised = request(1, 1, 30);
  penalised.prompt = {9, 8};
  penalised.sampling.frequency_penalty = 0.5f;
  t.scheduler.add(penalised);
  t.scheduler.plan();
  t.commit({9});
  const StepPlan& plan = t.scheduler.plan();
  ASSERT_EQ(plan.wanted.size(), 4u);
  const auto counts = [&](std::size_t row) {
    std::map<TokenId, std::pair<int, int>> counts;
    for (const TokenCount& count : plan.wanted[row].sampling.counts) {
      EXPECT_TRUE(counts.emplace(count.token, std::pair(count.in_prompt, count.in_output)).second);
    }
    return counts;
  };
  using Counts = std::map<TokenId, std::pair<int, int>>;
  EXPECT_EQ(counts(0), (Counts{{9, {1, 1}}, {8, {1, 0}}}));
  EXPECT_EQ(counts(1), (Counts{{9, {1, 1}}, {8, {1, 0}}, {1, {0, 1}}}));
  EXPECT_EQ(counts(2), (Counts{{9, {1, 2}}, {8, {1, 0}}, {1, {0, 1}}}));
  EXPECT_EQ(counts(3), (Counts{{9, {1, 2}}, {8, {1, 0}}, {1, {0, 2}}}));
}

TEST(SchedulerDrafts, AGuideMasksEachRowAndCutsWhatMayNotCome) {
  Taught t(8);
  t.scheduler.draft_with(always({10, 11, 30, 12}), kVocabulary);
  t.scheduler.add(request(1, 20, 30), std::make_unique<ScriptedGuide>(std::vector<TokenId>{9, 10, 11, 12, 13, 14}, 40));
  const StepPlan& prompt = t.scheduler.plan();
  ASSERT_EQ(prompt.wanted[0].sampling.allowed.size(), 2u);
  EXPECT_EQ(prompt.wanted[0].sampling.allowed[0], 1u << 9);
  EXPECT_EQ(prompt.wanted[0].sampling.allowed[1], 1u << 8);
  t.commit({9});
  const StepPlan& plan = t.scheduler.plan();
  EXPECT_THAT(plan.tokens, ElementsAre(9, 10, 11));
  ASSERT_EQ(plan.wanted.size(), 3u);
  EXPECT_EQ(plan.wanted[0].sampling.allowed[0], 1u << 10);
  EXPECT_EQ(plan.wanted[1].sampling.allowed[0], 1u << 11);
  EXPECT_EQ(plan.wanted[2].sampling.allowed[0], 1u << 12);
  EXPECT_THAT(tokens_of(t.commit({10, 40, 12})[0]), ElementsAre(10, 40));
  EXPECT_EQ(t.scheduler.plan().wanted[0].sampling.allowed[0], 1u << 12);  // 9, 10, 40: it is at the fourth
}

TEST(SchedulerDrafts, WhatAGrammarForcesComesFirst) {
  Taught t(8);
  t.scheduler.draft_with(always({63}), kVocabulary);
  t.scheduler.add(request(1, 20, 30),
                  std::make_unique<ScriptedGuide>(std::vector<TokenId>{9, 10, 11, 12, 13, 14}, std::nullopt, 4));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_THAT(t.scheduler.plan().tokens, ElementsAre(9, 10, 11, 12, 13));
  EXPECT_THAT(tokens_of(t.commit({10, 11, 12, 13, 14})[0]), ElementsAre(10, 11, 12, 13, 14));
}

TEST(SchedulerDrafts, AGuideThatThrowsEndsItsSequence) {
  for (const int throws_at : {0, 1, 3}) {
    Taught t(8);
    t.scheduler.draft_with(always({10, 11, 12}), kVocabulary);
    auto guide = std::make_unique<ScriptedGuide>(std::vector<TokenId>{9, 10, 11, 12, 13, 14});
    guide->throws_at = throws_at;
    t.scheduler.add(request(1, 16, 20), std::move(guide));
    t.scheduler.add(request(2, 16, 20));
    std::vector<SequenceEvent> failed;
    for (int step = 0; step < 4 && failed.empty(); ++step) {
      t.scheduler.plan();
      failed = t.scheduler.take_failed();
      std::vector<TokenId> tokens;
      for (const WantedRow& wanted : t.scheduler.planned_step().wanted) {
        tokens.push_back(static_cast<TokenId>(wanted.sampling.position - 16 + 9));
      }
      t.commit(tokens);
    }
    ASSERT_EQ(failed.size(), 1u);
    EXPECT_EQ(failed[0].id, 1u);
    ASSERT_TRUE(failed[0].event.error);
    EXPECT_EQ(failed[0].event.error->code(), ErrorCode::invalid_grammar);
    EXPECT_EQ(t.scheduler.running(), 1);
    EXPECT_THAT(t.scheduler.take_failed(), IsEmpty());
    t.scheduler.cancel(2);
    EXPECT_EQ(t.pool.used_blocks(), 0);
  }
}

// One that is alone leaves a step with nothing in it.
TEST(SchedulerDrafts, AGuideThatThrowsAlone) {
  BlockPool pool(4);
  Scheduler scheduler({64, 4}, &pool);
  auto guide = std::make_unique<ScriptedGuide>(std::vector<TokenId>{9});
  guide->throws_at = 0;
  scheduler.add(request(1, 16, 20), std::move(guide));
  EXPECT_THAT(scheduler.plan().slices, IsEmpty());
  EXPECT_FALSE(scheduler.in_step());
  EXPECT_EQ(scheduler.take_failed().size(), 1u);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(pool.used_blocks(), 0);
}

TEST(SchedulerDrafts, IdsThatDoNotExistNeverRide) {
  for (const TokenId wrong :
       {TokenId{-1}, TokenId{kVocabulary}, std::numeric_limits<TokenId>::max(), std::numeric_limits<TokenId>::min()}) {
    Taught t(8);
    t.scheduler.draft_with(always({1, wrong, 2}), kVocabulary);
    t.scheduler.add(request(1, 20, 30));
    t.scheduler.plan();
    t.commit({9});
    EXPECT_THAT(t.scheduler.plan().tokens, ElementsAre(9, 1));
    t.commit({1, 5});
  }
}

TEST(SchedulerDrafts, ADrafterThatThrowsIsNotAskedAgain) {
  Taught t(8);
  int asked = 0;
  t.scheduler.draft_with(std::make_unique<ScriptedDrafter>([&](const DraftContext&, int) -> Draft {
                           ++asked;
                           throw std::runtime_error("broken");
                         }),
                         kVocabulary);
  t.scheduler.add(request(1, 20, 5));
  while (!t.scheduler.idle()) {
    t.scheduler.plan();
    t.commit({9});
  }
  EXPECT_EQ(asked, 1);
}

TEST(SchedulerDrafts, ARowThatIsNotFiniteEndsWhatReachesItOnly) {
  Taught t(8);
  t.scheduler.draft_with(always({1, 2}), kVocabulary);
  t.scheduler.add(request(1, 20, 30));
  t.scheduler.plan();
  t.commit({9});
  const auto commit = [&](const std::vector<TokenId>& tokens, std::size_t broken) {
    StepResult result = answer(t.scheduler.planned_step(), tokens);
    result.rows[broken] = {.finite = false};
    return t.scheduler.commit(result);
  };
  t.scheduler.plan();
  EXPECT_THAT(tokens_of(commit({7, 0, 0}, 1)[0]), ElementsAre(7));  // behind a wrong draft
  t.scheduler.plan();
  EXPECT_THAT(tokens_of(commit({1, 0, 0}, 1)[0]), ElementsAre(1));  // the next step meets it first
  EXPECT_EQ(t.scheduler.plan().slices[0].start, 22);
  EXPECT_EQ(t.scheduler.planned_step().tokens[0], 1);
  const auto events = commit({0, 0, 0}, 0);
  ASSERT_TRUE(events[0].event.error);
  EXPECT_EQ(events[0].event.error->code(), ErrorCode::numerical_error);
  EXPECT_TRUE(t.scheduler.idle());
}

TEST(SchedulerDrafts, TheDrafterHearsOfEnds) {
  Taught t(8);
  auto drafter = std::make_unique<ScriptedDrafter>([](const DraftContext&, int) { return Draft{}; });
  const ScriptedDrafter& heard = *drafter;
  t.scheduler.draft_with(std::move(drafter), kVocabulary);
  t.scheduler.add(request(1, 4, 2));
  t.scheduler.plan();
  t.commit({9});
  t.scheduler.plan();
  t.commit({8});
  ASSERT_EQ(heard.finished.size(), 1u);
  EXPECT_THAT(heard.finished[0], ElementsAre(7, 8, 11, 16, 9, 8));
  EXPECT_EQ(heard.last_forgotten, 1u);
  t.scheduler.add(request(2, 4, 20));
  t.scheduler.plan();
  t.commit({9});
  EXPECT_TRUE(t.scheduler.cancel(2));
  EXPECT_EQ(heard.finished.size(), 2u);
  EXPECT_EQ(heard.last_forgotten, 2u);
  t.scheduler.add(request(3, 4, 20));
  t.scheduler.plan();
  t.scheduler.fail_step();  // nothing was learnt from it
  EXPECT_EQ(heard.finished.size(), 2u);
  EXPECT_EQ(heard.last_forgotten, 3u);
}

// A device whose next token depends on all the tokens before, which it reads back through the block tables, and on
// everything that a row samples by.
class HashingDevice {
 public:
  explicit HashingDevice(int blocks) : kv_(static_cast<std::size_t>(blocks) * kBlockTokens, -1) {}

  StepResult compute(const StepPlan& plan) {
    StepResult result;
    std::size_t next = 0;
    for (const SequenceSlice& slice : plan.slices) {
      std::uint64_t hash = 5;
      for (int position = 0; position < slice.start; ++position)
        hash = hash * 31 + static_cast<std::uint64_t>(at(slice, position));
      for (int i = 0; i < slice.rows; ++i) {
        const int row = slice.first_row + i;
        at(slice, slice.start + i) = plan.tokens[static_cast<std::size_t>(row)];
        hash = hash * 31 + static_cast<std::uint64_t>(plan.tokens[static_cast<std::size_t>(row)]);
        if (next == plan.wanted.size() || plan.wanted[next].row != row) continue;
        result.rows.push_back(sample_row(logits(hash), {}, plan.wanted[next++]));
      }
    }
    return result;
  }

 private:
  TokenId& at(const SequenceSlice& slice, int position) {
    const auto place = static_cast<std::size_t>(position);
    const auto block = static_cast<std::size_t>(slice.blocks[place / kBlockTokens]);
    return kv_.at(block * kBlockTokens + place % kBlockTokens);
  }
  static std::vector<float> logits(std::uint64_t hash) {
    std::mt19937 random(static_cast<std::uint32_t>(hash ^ hash >> 32));
    std::vector<float> logits(kVocabulary);
    for (float& logit : logits) logit = static_cast<float>(random() % 4096) / 512.0f;
    return logits;
  }

  std::vector<TokenId> kv_;
};

struct Said {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs, prompt_logprobs;
  std::vector<std::vector<TokenId>> alternatives;
  std::optional<FinishReason> finish;
  bool operator==(const Said&) const = default;
};

std::string text_of(const Said& said) {
  return testing::PrintToString(said.tokens) + testing::PrintToString(said.logprobs) +
         testing::PrintToString(said.prompt_logprobs) + testing::PrintToString(said.alternatives) +
         (said.finish == FinishReason::stop ? "stop" : "length");
}

void expect_same(const std::map<RequestId, Said>& said, const std::map<RequestId, Said>& expected) {
  ASSERT_EQ(said.size(), expected.size());
  for (const auto& [id, each] : expected) {
    ASSERT_TRUE(said.at(id) == each) << id << "\n" << text_of(said.at(id)) << "\n" << text_of(each);
  }
}

struct Traffic {
  std::map<RequestId, Said> said;
  int steps = 0;
  std::uint64_t preemptions = 0;
  SpeculationStatus speculation;
};

// Two hundred requests of every kind, arriving over time, in a pool that is too small for those that run.
Traffic run_traffic(std::unique_ptr<Drafter> drafter, unsigned seed) {
  constexpr int kBlocks = 28;
  BlockPool pool(kBlocks);
  Scheduler scheduler({48, 6}, &pool);
  if (drafter) scheduler.draft_with(std::move(drafter), kVocabulary);
  HashingDevice device(kBlocks);
  Traffic traffic;
  RequestId next = 1;
  for (int turn = 0; next <= 200 || !scheduler.idle(); ++turn) {
    while (next <= 200 && scheduler.waiting() < 3) {
      std::mt19937 random(seed * 1000 + static_cast<unsigned>(next));
      auto made = request(next % 7, 1 + static_cast<int>(random() % 90), 1 + static_cast<int>(random() % 60));
      made.id = next++;
      made.sampling.temperature = random() % 2 == 0 ? 0.0f : 0.9f;
      made.sampling.seed = random();
      if (random() % 3 == 0) made.sampling.frequency_penalty = 0.7f;
      if (random() % 4 == 0) made.sampling.repetition_penalty = 1.3f;
      if (random() % 3 == 0) made.sampling.top_k = 5;
      if (random() % 3 == 0) made.logit_bias = {{3, 2.0f}, {9, -50.0f}};
      if (random() % 2 == 0) made.stop_ids = {static_cast<TokenId>(random() % kVocabulary)};
      made.logprobs = random() % 2 == 0;
      made.top_logprobs = 3;
      made.prompt_logprobs = random() % 8 == 0;
      made.priority = static_cast<int>(random() % 3);
      std::unique_ptr<TokenGuide> guide;
      if (random() % 3 == 0) {
        std::vector<TokenId> text(random() % 40);
        for (TokenId& token : text) token = static_cast<TokenId>(random() % kVocabulary);
        guide = std::make_unique<ScriptedGuide>(text, 33, random() % 2 == 0 ? 8 : 0);
      }
      scheduler.add(made, std::move(guide));
    }
    const StepPlan& plan = scheduler.plan();
    EXPECT_LE(plan.tokens.size(), 48u);
    const StepResult result = device.compute(plan);
    scheduler.measured(5.0 + 0.05 * scheduler.planned_size().rows);
    for (const SequenceEvent& event : scheduler.commit(result)) {
      EXPECT_FALSE(event.event.error);
      Said& said = traffic.said[event.id];
      for (const SampledToken& token : event.event.tokens) {
        said.tokens.push_back(token.token);
        said.logprobs.push_back(token.logprob);
        std::vector<TokenId>& alternatives = said.alternatives.emplace_back();
        for (const TokenLogprob& other : token.top_logprobs) alternatives.push_back(other.token);
      }
      for (const float logprob : event.event.prompt_logprobs) said.prompt_logprobs.push_back(logprob);
      said.finish = event.event.finish;
    }
    ++traffic.steps;
  }
  EXPECT_EQ(pool.used_blocks(), 0);
  traffic.preemptions = scheduler.kv_status().preemptions;
  traffic.speculation = scheduler.speculation_status();
  return traffic;
}

// Knows what the sequence will say, and is wrong with some of it.
std::unique_ptr<Drafter> knowing(const std::map<RequestId, Said>& said, unsigned wrong_one_in) {
  return std::make_unique<ScriptedDrafter>(
      [said, wrong_one_in, random = std::mt19937(3)](const DraftContext& context, int most) mutable {
        const Said& reply = said.at(context.sequence + 1);
        Draft draft{{}, DraftSource::context, 40};
        for (std::size_t i = context.tokens.size() - context.prompt_tokens;
             i < reply.tokens.size() && static_cast<int>(draft.tokens.size()) < most; ++i) {
          const bool wrong = wrong_one_in > 0 && random() % wrong_one_in == 0;
          draft.tokens.push_back(wrong ? static_cast<TokenId>(random() % kVocabulary) : reply.tokens[i]);
        }
        return draft;
      });
}

TEST(SchedulerDrafts, WhatIsSaidDoesNotDependOnThem) {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    const Traffic plain = run_traffic(nullptr, seed);
    ASSERT_EQ(plain.said.size(), 200u);
    EXPECT_GT(plain.preemptions, 0u);
    EXPECT_EQ(plain.speculation.drafted, 0u);
    for (const unsigned wrong_one_in : {0u, 2u, 5u, 20u}) {
      const Traffic drafted = run_traffic(knowing(plain.said, wrong_one_in), seed);
      expect_same(drafted.said, plain.said);
      EXPECT_GT(drafted.speculation.accepted, 500u) << wrong_one_in;
      if (wrong_one_in == 2 || wrong_one_in == 5) continue;
      EXPECT_LT(drafted.steps, plain.steps * 3 / 4) << wrong_one_in;
    }
  }
}

TEST(SchedulerDrafts, FaultyDraftersChangeNothingButTime) {
  const Traffic plain = run_traffic(nullptr, 9);
  const std::map<std::string, ScriptedDrafter::Script> faulty = {
      {"always wrong",
       [](const DraftContext& context, int most) {
         return Draft{std::vector<TokenId>(static_cast<std::size_t>(most), (context.tokens.back() + 1) % kVocabulary),
                      DraftSource::context, 100};
       }},
      {"too large",
       [](const DraftContext&, int most) {
         return Draft{std::vector<TokenId>(static_cast<std::size_t>(most), kVocabulary), DraftSource::context, 100};
       }},
      {"negative",
       [](const DraftContext&, int most) {
         return Draft{std::vector<TokenId>(static_cast<std::size_t>(most), -7), DraftSource::outputs, -5};
       }},
      {"endless",
       [](const DraftContext& context, int) {
         return Draft{std::vector<TokenId>(10000, context.tokens.front()), DraftSource::prediction,
                      std::numeric_limits<int>::max()};
       }},
      {"throws",
       [](const DraftContext& context, int) -> Draft {
         if (context.tokens.size() % 5 == 0) throw std::bad_alloc();
         return {{1, 2, 3}, DraftSource::nearby, 2};
       }},
  };
  for (const auto& [name, script] : faulty) {
    SCOPED_TRACE(name);
    expect_same(run_traffic(std::make_unique<ScriptedDrafter>(script), 9).said, plain.said);
  }
}

// Steps of a processor: a row more is cheap up to the fourth, dear from there on.
double processor_ms(int rows) { return rows <= 4 ? 2.1 + 0.25 * (rows - 1) : 2.85 + 0.85 * (rows - 4); }

struct Told {
  int steps = 0;
  double ms = 0.0;
};

// Sequences that each say `replies[i]`, whatever is drafted, on such a processor.
Told tell(const std::vector<GenerateRequest>& requests, const std::vector<std::vector<TokenId>>& replies,
          std::unique_ptr<Drafter> drafter) {
  BlockPool pool(512);
  Scheduler scheduler({512, 32}, &pool);
  if (drafter) scheduler.draft_with(std::move(drafter), 10000);
  for (const GenerateRequest& request : requests) scheduler.add(request);
  Told told;
  while (!scheduler.idle()) {
    const StepPlan& plan = scheduler.plan();
    StepResult result;
    for (const WantedRow& wanted : plan.wanted) {
      std::size_t slice = plan.slices.size() - 1;
      while (plan.slices[slice].first_row > wanted.row) --slice;
      const std::size_t sequence = scheduler.planned()[slice] - 1;
      const auto said = static_cast<std::size_t>(wanted.sampling.position) - requests[sequence].prompt.size();
      result.rows.push_back({.token = replies[sequence].at(said)});
    }
    const double ms = processor_ms(scheduler.planned_size().sampled);
    scheduler.measured(ms);
    scheduler.commit(result);
    ++told.steps;
    told.ms += ms;
  }
  return told;
}

std::vector<TokenId> random_tokens(int count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>(random() % 10000));
  return tokens;
}

GenerateRequest asking(RequestId id, std::vector<TokenId> prompt, std::size_t reply_tokens) {
  GenerateRequest made;
  made.id = id;
  made.prompt = std::move(prompt);
  made.max_tokens = static_cast<int>(reply_tokens);
  return made;
}

TEST(SchedulerDrafts, CopyingTakesFewerSteps) {
  const std::vector<TokenId> text = random_tokens(400, 1);
  std::vector<TokenId> edited = text;
  for (std::size_t i = 20; i < edited.size(); i += 40) edited[i] = 1;
  for (const std::vector<TokenId>& reply : {text, edited}) {
    const std::vector requests = {asking(1, text, reply.size())};
    const Told plain = tell(requests, {reply}, nullptr);
    const Told drafted = tell(requests, {reply}, std::make_unique<SuffixDrafter>());
    EXPECT_EQ(plain.steps, 400);
    EXPECT_LT(drafted.steps, 160);
    EXPECT_LT(drafted.ms * 1.6, plain.ms);
  }
  auto predicted = asking(1, random_tokens(30, 2), edited.size());
  predicted.prediction = text;
  EXPECT_LT(tell({predicted}, {edited}, std::make_unique<SuffixDrafter>()).steps, 160);
}

TEST(SchedulerDrafts, WhatIsNewTakesNoLonger) {
  for (const int sequences : {1, 4, 16}) {
    std::vector<GenerateRequest> requests;
    std::vector<std::vector<TokenId>> replies;
    for (int i = 0; i < sequences; ++i) {
      // Runs of two tokens that were there before say nothing of the third.
      std::mt19937 random(static_cast<unsigned>(i));
      std::vector<TokenId>& reply = replies.emplace_back();
      while (reply.size() < 300) {
        const auto word = static_cast<TokenId>(random() % 30);
        reply.insert(reply.end(), {word, static_cast<TokenId>(word + 100), static_cast<TokenId>(random() % 10000)});
      }
      requests.push_back(asking(static_cast<RequestId>(i) + 1, random_tokens(50, 7), reply.size()));
    }
    const Told plain = tell(requests, replies, nullptr);
    EXPECT_LT(tell(requests, replies, std::make_unique<SuffixDrafter>()).ms, plain.ms * 1.02) << sequences;
    EXPECT_LT(tell(requests, replies, always(std::vector<TokenId>(16, 10000 - 1), 100)).ms, plain.ms * 1.03)
        << sequences;
  }
}

}  // namespace
}  // namespace cortex
