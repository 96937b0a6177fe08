#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "engine/scheduler.h"
#include "fakes/fake_backend.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

using Tokens = std::vector<TokenId>;

Tokens counted(int count, TokenId first) {
  Tokens tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(first + i % 400);
  return tokens;
}

GenerateRequest ask(RequestId id, Tokens prompt, int max_tokens, std::string salt = "key") {
  GenerateRequest request;
  request.id = id;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0.0f;
  request.salt = std::move(salt);
  request.explain = true;
  return request;
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

// What a tier below would do, by hand: it has what it is given, and reads when it is told to.
class FakeTier : public BlockTier {
 public:
  FakeTier(FakeDecoder* decoder, BlockPool* pool) : decoder_(decoder), pool_(pool) {}

  int available(const BlockKey&, std::span<const BlockKey> chain, int first) const override {
    int count = 0;
    for (const BlockKey& key : chain.subspan(static_cast<std::size_t>(first))) {
      if (!has.contains(key)) break;
      ++count;
    }
    return count;
  }
  bool worth_reading(int, double) const override { return worth; }
  void restore(std::uint64_t id, PoolRestore restore) override { restores.emplace(id, std::move(restore)); }
  void forget(std::uint64_t id) override { restores.erase(id); }
  bool wants(const BlockKey& last) const override { return !has.contains(last); }
  void keep(PoolRun run) override { kept.push_back(std::move(run)); }
  bool give_up() override {
    for (const PoolRun& run : kept) pool_->release(run.blocks);
    return !std::exchange(kept, {}).empty();
  }

  void write_all() {
    for (const PoolRun& run : kept) {
      for (std::size_t i = 0; i < run.keys.size(); ++i) {
        std::vector<std::byte> bytes(kFakeBlockBytes);
        decoder_->read_blocks(std::span(run.blocks).subspan(i, 1), bytes);
        has[run.keys[i]] = bytes;
      }
      pool_->release(run.blocks);
    }
    kept.clear();
  }
  // The first restore, of which so many blocks are good.
  void finish(Scheduler* scheduler, int most = 1000) {
    const auto [id, restore] = *restores.begin();
    const int count = std::min(most, static_cast<int>(restore.blocks.size()));
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      decoder_->write_blocks(std::span(restore.blocks).subspan(at, 1),
                             has.at(restore.chain[static_cast<std::size_t>(restore.first) + at]));
    }
    restores.erase(id);
    scheduler->restored(id, count);
  }

  std::map<BlockKey, std::vector<std::byte>> has;
  std::map<std::uint64_t, PoolRestore> restores;
  std::vector<PoolRun> kept;
  bool worth = true;

 private:
  FakeDecoder* decoder_;
  BlockPool* pool_;
};

class PrefixReuseTest : public testing::Test {
 protected:
  explicit PrefixReuseTest(int blocks = 16, SchedulerLimits limits = {64, 8})
      : pool_(blocks), tier_(&decoder_, &pool_), scheduler_(limits, &pool_, {"model"}, &tier_) {
    decoder_.reserve_kv(blocks);
  }

  // One step; what every request has got so far is in replies_.
  void step() {
    StepResult result;
    decoder_.submit(scheduler_.plan());
    decoder_.collect(&result);
    for (SequenceEvent& event : scheduler_.commit(result)) {
      for (const SampledToken& token : event.event.tokens) replies_[event.id].push_back(token.token);
      if (event.event.last()) ended_[event.id] = event.hit;
    }
  }
  PrefixHit run(GenerateRequest request) {
    const RequestId id = request.id;
    const Tokens expected = fake_reply(request.prompt, request.max_tokens);
    scheduler_.add(std::move(request));
    while (!ended_.contains(id)) {
      while (!tier_.restores.empty()) tier_.finish(&scheduler_);
      step();
    }
    EXPECT_EQ(replies_[id], expected);
    return ended_[id];
  }

  FakeSwitches switches_;
  FakeDecoder decoder_{&switches_};
  BlockPool pool_;
  FakeTier tier_;
  Scheduler scheduler_;
  std::map<RequestId, Tokens> replies_;
  std::map<RequestId, PrefixHit> ended_;
};

TEST_F(PrefixReuseTest, ThePromptAndReplyOfOneServeTheNext) {
  EXPECT_EQ(run(ask(1, counted(40, 100), 10)).memory_tokens, 0);
  EXPECT_EQ(pool_.used_blocks(), 3);  // kept for the tier below: 49 tokens are computed
  tier_.write_all();
  EXPECT_EQ(pool_.used_blocks(), 0);
  EXPECT_EQ(pool_.cached_blocks(), 3);

  scheduler_.add(ask(2, counted(40, 100), 10));
  EXPECT_THAT(slices_of(scheduler_.plan()), ElementsAre("32+8[0 1 3]"));
  scheduler_.fail_step();

  Tokens dialogue = counted(40, 100);
  const Tokens reply = fake_reply(dialogue, 10);
  dialogue.insert(dialogue.end(), reply.begin(), reply.end());
  dialogue.push_back(300);
  EXPECT_EQ(run(ask(3, dialogue, 5)).memory_tokens, 48);
}

TEST_F(PrefixReuseTest, OneTokenIsAlwaysComputed) {
  run(ask(1, counted(32, 100), 1));
  EXPECT_EQ(run(ask(2, counted(32, 100), 4)).memory_tokens, 16);
  EXPECT_EQ(run(ask(3, counted(33, 100), 4)).memory_tokens, 32);
}

TEST_F(PrefixReuseTest, SaltsShareNothing) {
  run(ask(1, counted(40, 100), 4, "key:a"));
  const PrefixHit other = run(ask(2, counted(40, 100), 4, "key:b"));
  EXPECT_EQ(other.memory_tokens, 0);
  EXPECT_EQ(other.explanation->miss, CacheMiss::other_salt);
  const PrefixHit stranger = run(ask(3, counted(40, 100), 4, "other"));
  EXPECT_EQ(stranger.memory_tokens, 0);
  EXPECT_EQ(stranger.explanation->miss, CacheMiss::first_use);  // not even that is told
  EXPECT_EQ(run(ask(4, counted(40, 100), 4, "key:a")).memory_tokens, 32);
}

TEST_F(PrefixReuseTest, PromptLogprobsTakeNothing) {
  run(ask(1, counted(40, 100), 4));
  GenerateRequest scoring = ask(2, counted(40, 100), 4);
  scoring.prompt_logprobs = true;
  EXPECT_EQ(run(scoring).memory_tokens, 0);
}

TEST_F(PrefixReuseTest, TheSamePromptsAtOnceAreComputedOnce) {
  for (RequestId id = 1; id <= 3; ++id) scheduler_.add(ask(id, counted(50, 100), 4));
  scheduler_.add(ask(4, counted(10, 500), 4));
  EXPECT_THAT(slices_of(scheduler_.plan()), ElementsAre("0+50[0 1 2 3]", "0+10[4]"));
  scheduler_.fail_step();
  for (RequestId id = 1; id <= 3; ++id) scheduler_.cancel(id);
  for (RequestId id = 5; id <= 6; ++id) scheduler_.add(ask(id, counted(50, 100), 4));
  step();
  EXPECT_THAT(slices_of(scheduler_.plan()), ElementsAre("50+1[0 1 2 3]", "48+2[0 1 2 4]"));
}

TEST_F(PrefixReuseTest, WhoWaitsForAPrefixIsNotHeldUpByItsEnd) {
  scheduler_.add(ask(1, counted(200, 100), 4));  // chunks of 64
  scheduler_.add(ask(2, counted(200, 100), 4));
  step();
  EXPECT_EQ(scheduler_.running(), 1);
  EXPECT_TRUE(scheduler_.cancel(1));
  EXPECT_THAT(slices_of(scheduler_.plan()).front(), testing::StartsWith("64+64[0 1 2 3 "));
}

TEST_F(PrefixReuseTest, SaysWhereAPromptDiverges) {
  run(ask(1, counted(40, 100), 1));
  Tokens prompt = counted(40, 100);
  prompt[20] = 7;
  const PrefixHit hit = run(ask(2, prompt, 1));
  EXPECT_EQ(hit.memory_tokens, 16);
  EXPECT_EQ(hit.explanation->miss, CacheMiss::diverged);
  EXPECT_EQ(hit.explanation->diverged_at, 20);
  EXPECT_EQ(hit.explanation->diverged_to, 7);
  EXPECT_FALSE(run(ask(3, counted(40, 100), 1)).explanation->miss);
  EXPECT_EQ(run(ask(4, counted(40, 500), 1)).explanation->miss, CacheMiss::first_use);
}

TEST_F(PrefixReuseTest, SaysWhatWasEvicted) {
  run(ask(1, counted(40, 100), 1));
  tier_.give_up();
  run(ask(2, counted(230, 500), 1));
  tier_.give_up();
  tier_.has.clear();
  const PrefixHit hit = run(ask(3, counted(40, 100), 1));
  EXPECT_EQ(hit.explanation->miss, CacheMiss::evicted);
}

TEST_F(PrefixReuseTest, SaysWhatIsBeingComputed) {
  scheduler_.add(ask(1, counted(20, 100), 100));
  for (int i = 0; i < 3; ++i) step();
  // The second block is a running sequence's, not full yet.
  const PrefixHit hit = run(ask(2, counted(40, 100), 1));
  EXPECT_EQ(hit.memory_tokens, 16);
  EXPECT_EQ(hit.explanation->miss, CacheMiss::not_yet_written);
}

TEST_F(PrefixReuseTest, ComesBackFromTheTierBelow) {
  run(ask(1, counted(100, 100), 10));
  tier_.write_all();
  EXPECT_EQ(tier_.has.size(), 6u);
  run(ask(2, counted(240, 500), 1));  // evicts all of it but the first block
  tier_.give_up();
  scheduler_.add(ask(3, counted(100, 100), 10));
  EXPECT_THAT(slices_of(scheduler_.plan()), IsEmpty());
  EXPECT_EQ(scheduler_.running(), 1);
  EXPECT_FALSE(scheduler_.idle());
  ASSERT_EQ(tier_.restores.size(), 1u);
  tier_.finish(&scheduler_);
  while (!scheduler_.idle()) step();
  EXPECT_EQ(replies_[3], replies_[1]);
  EXPECT_EQ(ended_[3].memory_tokens, 16);
  EXPECT_EQ(ended_[3].disk_tokens, 80);
  EXPECT_EQ(scheduler_.kv_status().disk_hit_tokens, 80u);
}

TEST_F(PrefixReuseTest, WhatIsNotWholeBelowIsComputed) {
  run(ask(1, counted(100, 100), 10));
  tier_.write_all();
  run(ask(2, counted(240, 500), 1));
  tier_.give_up();
  for (const int good : {0, 2}) {
    const RequestId id = 10 + static_cast<RequestId>(good);
    scheduler_.add(ask(id, counted(100, 100), 10));
    scheduler_.plan();
    tier_.finish(&scheduler_, good);
    while (!scheduler_.idle()) step();
    EXPECT_EQ(replies_[id], replies_[1]);
    EXPECT_EQ(ended_[id].disk_tokens, 16 * good);
    tier_.give_up();
    run(ask(100 + id, counted(240, 500), 1));
    tier_.give_up();
  }
}

TEST_F(PrefixReuseTest, ACancelledRestoreIsForgotten) {
  run(ask(1, counted(100, 100), 10));
  tier_.write_all();
  run(ask(2, counted(240, 500), 1));
  tier_.give_up();
  scheduler_.add(ask(3, counted(100, 100), 10));
  scheduler_.plan();
  ASSERT_EQ(tier_.restores.size(), 1u);
  const auto id = tier_.restores.begin()->first;
  EXPECT_TRUE(scheduler_.cancel(3));
  EXPECT_TRUE(tier_.restores.empty());
  EXPECT_EQ(pool_.used_blocks(), 0);
  scheduler_.restored(id, 6);
  EXPECT_TRUE(scheduler_.idle());
}

TEST_F(PrefixReuseTest, WhatIsDearToReadIsComputed) {
  run(ask(1, counted(100, 100), 10));
  tier_.write_all();
  run(ask(2, counted(240, 500), 1));
  tier_.give_up();
  tier_.worth = false;
  const PrefixHit hit = run(ask(3, counted(100, 100), 10));
  EXPECT_EQ(hit.disk_tokens, 0);
  EXPECT_EQ(hit.explanation->miss, CacheMiss::cheaper_to_compute);
}

// Prompts when they are computed, replies when they end, in runs that start at multiples of sixteen blocks.
TEST_F(PrefixReuseTest, KeepsRunsThatGrow) {
  scheduler_.add(ask(1, counted(40, 100), 30));
  step();
  ASSERT_EQ(tier_.kept.size(), 1u);
  EXPECT_EQ(tier_.kept[0].first, 0);
  EXPECT_EQ(tier_.kept[0].blocks.size(), 2u);
  EXPECT_EQ(tier_.kept[0].tokens, counted(32, 100));
  while (!scheduler_.idle()) step();
  ASSERT_EQ(tier_.kept.size(), 2u);
  EXPECT_EQ(tier_.kept[1].first, 0);
  EXPECT_EQ(tier_.kept[1].blocks.size(), 4u);
}

class SmallPoolTest : public PrefixReuseTest {
 protected:
  SmallPoolTest() : PrefixReuseTest(4, {64, 4}) {}
};

TEST_F(SmallPoolTest, TheYoungestMakesRoomAndGoesOnLater) {
  scheduler_.add(ask(1, counted(16, 100), 40));  // 56 tokens: all 4 blocks in the end
  scheduler_.add(ask(2, counted(16, 300), 30));
  step();
  EXPECT_EQ(scheduler_.running(), 2);
  while (scheduler_.running() == 2) step();
  EXPECT_EQ(scheduler_.kv_status().preemptions, 1u);
  EXPECT_EQ(scheduler_.waiting(), 1);
  tier_.give_up();
  while (!scheduler_.idle()) step();
  EXPECT_EQ(replies_[1], fake_reply(counted(16, 100), 40));
  EXPECT_EQ(replies_[2], fake_reply(counted(16, 300), 30));
  tier_.give_up();
  EXPECT_EQ(pool_.used_blocks(), 0);
}

TEST_F(SmallPoolTest, WhatIsKeptForBelowGivesWayFirst) {
  scheduler_.add(ask(1, counted(33, 100), 4));
  while (!scheduler_.idle()) step();
  EXPECT_GT(pool_.used_blocks(), 0);
  EXPECT_EQ(run(ask(2, counted(60, 500), 4)).memory_tokens, 0);
  EXPECT_EQ(scheduler_.kv_status().preemptions, 0u);
}

TEST_F(SmallPoolTest, APreemptedScoringTellsEachPositionOnce) {
  scheduler_.add(ask(1, counted(16, 100), 40));
  GenerateRequest scoring = ask(2, counted(20, 300), 20);
  scoring.prompt_logprobs = true;
  scheduler_.add(scoring);
  std::vector<float> told;
  while (!scheduler_.idle()) {
    tier_.give_up();
    StepResult result;
    decoder_.submit(scheduler_.plan());
    decoder_.collect(&result);
    for (const SequenceEvent& event : scheduler_.commit(result)) {
      if (event.id == 2)
        told.insert(told.end(), event.event.prompt_logprobs.begin(), event.event.prompt_logprobs.end());
    }
  }
  EXPECT_GT(scheduler_.kv_status().preemptions, 0u);
  EXPECT_EQ(told.size(), 19u);
}

// Whatever comes, goes, is evicted, preempted, restored whole or in part: everybody gets the tokens that it would get
// alone, and every block comes back.
TEST(PrefixReuse, RandomTrafficGetsTheSameTokensAsAlone) {
  for (const int blocks : {12, 20, 60}) {
    std::mt19937 random(static_cast<unsigned>(blocks));
    FakeSwitches switches;
    FakeDecoder decoder(&switches);
    decoder.reserve_kv(blocks);
    BlockPool pool(blocks);
    FakeTier tier(&decoder, &pool);
    Scheduler scheduler({48, 6}, &pool, {"model"}, &tier);
    std::map<RequestId, Tokens> expected, got;
    std::vector<Tokens> dialogues = {{}};
    RequestId next = 1;
    std::uint64_t hits = 0;
    for (int turn = 0; turn < 6000; ++turn) {
      if (turn < 5000 && random() % 4 == 0) {
        Tokens prompt = dialogues[random() % dialogues.size()];
        prompt.resize(std::min<std::size_t>(prompt.size(), random() % 120));
        const Tokens added = counted(1 + static_cast<int>(random() % 30), static_cast<TokenId>(100 + random() % 3));
        prompt.insert(prompt.end(), added.begin(), added.end());
        GenerateRequest request = ask(next, prompt, static_cast<int>(random() % 25), random() % 5 ? "key" : "key:a");
        request.priority = static_cast<int>(random() % 3);
        request.prompt_logprobs = random() % 10 == 0;
        expected[next++] = fake_reply(prompt, request.max_tokens);
        const Tokens& reply = expected[request.id];
        prompt.insert(prompt.end(), reply.begin(), reply.end());
        if (dialogues.size() < 20) dialogues.push_back(prompt);
        scheduler.add(std::move(request));
      }
      if (random() % 15 == 0 && !expected.empty()) {
        const RequestId victim = std::next(expected.begin(), static_cast<int>(random() % expected.size()))->first;
        ASSERT_TRUE(scheduler.cancel(victim));
        expected.erase(victim);
      }
      if (random() % 3 == 0) tier.write_all();
      if (!tier.restores.empty() && (turn >= 5000 || random() % 2)) {
        tier.finish(&scheduler, static_cast<int>(random() % 12));
      }
      const StepPlan& plan = scheduler.plan({.now_ms = 10.0 * turn});
      if (plan.slices.empty()) continue;
      ASSERT_LE(plan.tokens.size(), 48u);
      StepResult result;
      decoder.submit(plan);
      decoder.collect(&result);
      if (turn % 97 == 0) {
        scheduler.fail_step();
        for (const RequestId id : scheduler.planned()) expected.erase(id);
        continue;
      }
      scheduler.measured(1.0 + 0.3 * static_cast<double>(plan.tokens.size()));
      for (const SequenceEvent& event : scheduler.commit(result)) {
        for (const SampledToken& token : event.event.tokens) got[event.id].push_back(token.token);
        if (!event.event.last()) continue;
        ASSERT_EQ(got[event.id], expected.at(event.id)) << "request " << event.id;
        expected.erase(event.id);
        hits += static_cast<std::uint64_t>(event.hit.memory_tokens + event.hit.disk_tokens);
      }
    }
    EXPECT_TRUE(expected.empty()) << expected.size();
    tier.write_all();
    EXPECT_EQ(pool.used_blocks(), 0);
    EXPECT_GT(hits, 1000u);
    if (blocks < 20) {
      EXPECT_GT(scheduler.kv_status().preemptions, 0u);
    }
    EXPECT_GT(scheduler.kv_status().disk_hit_tokens, 0u);
  }
}

}  // namespace
}  // namespace cortex
