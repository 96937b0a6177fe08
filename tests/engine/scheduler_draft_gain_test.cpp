// What drafts save on a processor, and that they cost nothing where there is nothing to save.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "engine/scheduler.h"
#include "engine/scripted_drafts.h"
#include "engine/suffix_drafter.h"

namespace cortex {
namespace {

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

GenerateRequest asking_for(RequestId id, std::vector<TokenId> prompt, std::size_t reply_tokens) {
  GenerateRequest made;
  made.id = id;
  made.prompt = std::move(prompt);
  made.max_tokens = static_cast<int>(reply_tokens);
  return made;
}

TEST(SchedulerDraftGain, CopyingTakesFewerSteps) {
  const std::vector<TokenId> text = random_tokens(400, 1);
  std::vector<TokenId> edited = text;
  for (std::size_t i = 20; i < edited.size(); i += 40) edited[i] = 1;
  for (const std::vector<TokenId>& reply : {text, edited}) {
    const std::vector requests = {asking_for(1, text, reply.size())};
    const Told plain = tell(requests, {reply}, nullptr);
    const Told drafted = tell(requests, {reply}, std::make_unique<SuffixDrafter>());
    EXPECT_EQ(plain.steps, 400);
    EXPECT_LT(drafted.steps, 160);
    EXPECT_LT(drafted.ms * 1.6, plain.ms);
  }
  auto predicted = asking_for(1, random_tokens(30, 2), edited.size());
  predicted.prediction = text;
  EXPECT_LT(tell({predicted}, {edited}, std::make_unique<SuffixDrafter>()).steps, 160);
}

TEST(SchedulerDraftGain, WhatIsNewTakesNoLonger) {
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
      requests.push_back(asking_for(static_cast<RequestId>(i) + 1, random_tokens(50, 7), reply.size()));
    }
    const Told plain = tell(requests, replies, nullptr);
    EXPECT_LT(tell(requests, replies, std::make_unique<SuffixDrafter>()).ms, plain.ms * 1.02) << sequences;
    EXPECT_LT(tell(requests, replies, always(std::vector<TokenId>(16, 10000 - 1), 100)).ms, plain.ms * 1.03)
        << sequences;
  }
}

}  // namespace
}  // namespace cortex
