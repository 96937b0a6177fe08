// Nothing that is said depends on drafts: whole traffics with drafters of every kind, on a device that depends on all
// that a row samples by.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>

#include "backend/sampler.h"
#include "engine/scheduler.h"
#include "engine/scripted_drafts.h"

namespace cortex {
namespace {

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
      auto made = asking(next % 7, 1 + static_cast<int>(random() % 90), 1 + static_cast<int>(random() % 60));
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

TEST(SchedulerDraftEquality, WhatIsSaidDoesNotDependOnThem) {
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

TEST(SchedulerDraftEquality, FaultyDraftersChangeNothingButTime) {
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

}  // namespace
}  // namespace cortex
