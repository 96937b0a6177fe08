#include "engine/local_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <future>
#include <string>
#include <thread>

#include "engine/local_engine_fixture.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/requests.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class LocalEngineTest : public LocalEngineFixture {};

TEST_F(LocalEngineTest, SaysWhatTheModelSays) {
  CollectedEvents events;
  engine().generate(ask(1, {1, 2, 3}, 40), events.sink());
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply({1, 2, 3}, 40));
  EXPECT_EQ(events.finish(), FinishReason::length);
  EXPECT_EQ(events.events().size(), 40u);  // one call a step
  const auto last = events.events().back();
  ASSERT_TRUE(last.timings);
  EXPECT_EQ(last.timings->prompt_tokens, 3);
  EXPECT_GE(last.timings->queue_ms, 0.0);
  EXPECT_GE(last.timings->prefill_ms, 0.0);
  EXPECT_GT(last.timings->decode_ms, 0.0);
}

TEST_F(LocalEngineTest, OutputDoesNotDependOnCompany) {
  options_.rows_per_step = 40;
  options_.max_sequences = 6;
  options_.kv_bytes = 40 * kFakeBlockBytes;
  std::deque<CollectedEvents> events(30);
  for (int i = 0; i < 30; ++i) {
    auto request = ask(static_cast<RequestId>(i) + 1, long_prompt(1 + i * 13 % 150), 5 + i % 17);
    request.priority = i % 3;
    engine().generate(request, events[static_cast<std::size_t>(i)].sink());
  }
  for (int i = 0; i < 30; ++i) {
    auto& mine = events[static_cast<std::size_t>(i)];
    mine.wait();
    EXPECT_EQ(mine.tokens(), fake_reply(long_prompt(1 + i * 13 % 150), 5 + i % 17)) << i;
    EXPECT_EQ(mine.after_the_last(), 0);
  }
  wait_until_idle();
}

TEST_F(LocalEngineTest, StopIdsEndAReplyAndUnknownOnesAreHarmless) {
  auto request = ask(1, {1, 2, 3}, 40);
  request.stop_ids = {kFakeVocabulary + 5, fake_reply({1, 2, 3}, 4)[3]};
  CollectedEvents events;
  engine().generate(request, events.sink());
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply({1, 2, 3}, 4));
  EXPECT_EQ(events.finish(), FinishReason::stop);
}

TEST_F(LocalEngineTest, ScoresAPromptInChunks) {
  options_.rows_per_step = 32;
  options_.max_sequences = 8;
  const auto prompt = long_prompt(100);
  auto request = ask(1, prompt, 0);
  request.prompt_logprobs = true;
  CollectedEvents events;
  engine().generate(request, events.sink());
  events.wait();
  std::vector<float> expected;
  for (std::size_t i = 1; i < prompt.size(); ++i) {
    expected.push_back(fake_score(std::span(prompt).first(i), prompt[i]));
  }
  EXPECT_EQ(events.prompt_logprobs(), expected);
  EXPECT_TRUE(events.tokens().empty());
  EXPECT_EQ(events.finish(), FinishReason::length);
  EXPECT_GT(events.events().size(), 2u);
}

TEST_F(LocalEngineTest, DeliversLogprobs) {
  auto request = ask(1, {1}, 1);
  request.logprobs = true;
  request.top_logprobs = 3;
  CollectedEvents events;
  engine().generate(request, events.sink());
  events.wait();
  const SampledToken sampled = events.events()[0].tokens[0];
  EXPECT_EQ(sampled.logprob, -0.5f);
  ASSERT_EQ(sampled.top_logprobs.size(), 3u);
  EXPECT_EQ(sampled.top_logprobs[1].token, sampled.token + 1);
}

TEST_F(LocalEngineTest, EncodesInBatchesBesideADecoder) {
  options_.encode_batch_tokens = 8;
  CollectedEvents events;
  engine().generate(ask(1, {1, 2, 3}, 60), events.sink());
  CollectedReply reply;
  engine().encode(texts(2, {{5, 5, 5}, {6, 6}, {7}, {8, 8, 8, 8, 8, 8, 8, 8, 8}}), reply.sink());
  const EncodeReply encoded = reply.wait();
  EXPECT_EQ(encoded.dimensions, 2);
  EXPECT_THAT(encoded.vectors, ElementsAre(3, 5, 2, 6, 1, 7, 9, 8));
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply({1, 2, 3}, 60));
}

// Both take the same time on the device, so that neither is computed twice in a row while the other waits.
TEST_F(LocalEngineTest, EncodeBatchesAndDecodeStepsTakeTurns) {
  std::promise<void> both_came;
  std::vector<std::string> phases;  // the engine thread's, until the engine is gone
  switches_.clock = &clock_;
  switches_.step_ms = 2;
  options_.clock = &clock_;
  options_.encode_batch_tokens = 4;
  options_.failpoint = [&, came = both_came.get_future().share()](std::string_view phase, std::span<const TokenId>) {
    if (phase != "decode" && phase != "encode") return;
    came.wait();
    phases.emplace_back(phase);
  };
  wait_for([](const EngineStatus& s) { return s.models.size() == 2 && s.models[1].state == ModelState::ready; });
  CollectedEvents events;
  CollectedReply reply;
  engine().generate(ask(1, {1}, 100), events.sink());
  engine().encode(texts(2, std::vector<std::vector<TokenId>>(20, {1, 2, 3, 4})), reply.sink());
  both_came.set_value();
  reply.wait();
  events.wait();
  engine_.reset();
  const auto first = std::ranges::find(phases, "encode");
  const auto last = std::ranges::find(phases.rbegin(), phases.rend(), "encode").base();
  EXPECT_EQ(std::count(first, last, "encode"), 20);
  EXPECT_EQ(std::count(first, last, "decode"), 19);
  EXPECT_EQ(std::adjacent_find(first, last), last);
}

TEST_F(LocalEngineTest, CountsItsStepsByKind) {
  switches_.clock = &clock_;
  switches_.step_ms = 30;
  options_.clock = &clock_;
  options_.speculation = false;
  options_.rows_per_step = 80;
  CollectedEvents events;
  engine().generate(ask(1, long_prompt(100), 5), events.sink());
  events.wait();
  EXPECT_FALSE(refusal(texts(2, {{1, 2, 3}, {4}})));
  auto scored = texts(3, {{1, 2, 3, 4, 5}});
  scored.model = "m";
  EXPECT_FALSE(refusal(scored));
  EXPECT_EQ(refusal(ask(4, {kFakeThrow, 1}, 5))->code(), ErrorCode::weights_io_error);  // counts for nothing
  const StepCounts counts = wait_until_idle().step_counts;
  const auto expect = [&](StepKind kind, std::uint64_t steps, double tokens) {
    EXPECT_EQ(counts.of(kind).seconds.buckets[7], steps) << name_of(kind);  // up to 50 ms
    EXPECT_NEAR(counts.of(kind).seconds.sum, 0.03 * static_cast<double>(steps), 1e-9) << name_of(kind);
    EXPECT_EQ(counts.of(kind).tokens.sum, tokens) << name_of(kind);
  };
  expect(StepKind::prompt, 2, 100);
  expect(StepKind::decode, 4, 4);
  expect(StepKind::mixed, 0, 0);
  expect(StepKind::encode, 2, 4 + 5);
  EXPECT_EQ(counts.of(StepKind::prompt).tokens.buckets[7], 1u);  // the first 80 of them
  EXPECT_EQ(counts.of(StepKind::prompt).tokens.buckets[5], 1u);
  EXPECT_EQ(counts.of(StepKind::decode).tokens.buckets[0], 4u);
}

TEST_F(LocalEngineTest, CancelFreesTheBlocks) {
  switches_.step_ms = 5;
  CollectedEvents events;
  engine().generate(ask(1, {1, 2}, 400), events.sink());
  events.wait_for_tokens(2);
  EXPECT_GT(engine().status().kv_blocks_used, 0);
  engine().cancel(1);
  events.wait();
  EXPECT_EQ(events.error_code(), ErrorCode::cancelled);
  wait_until_idle();
  engine().cancel(1);  // already over: nothing happens
  CollectedEvents other;
  engine().generate(ask(2, {1, 2}, 2), other.sink());
  other.wait();
  EXPECT_EQ(events.after_the_last(), 0);
}

TEST_F(LocalEngineTest, ASinkMayCancel) {
  std::promise<void> over;
  engine().generate(ask(1, {1, 2}, 400), [&](GenerateEvent event) {
    if (event.last()) {
      EXPECT_EQ(event.error->code(), ErrorCode::cancelled);
      over.set_value();
    } else {
      engine().cancel(1);
    }
  });
  EXPECT_EQ(over.get_future().wait_for(10s), std::future_status::ready);
}

TEST_F(LocalEngineTest, DeadlinesEndWhatRunsAndWhatWaits) {
  switches_.step_ms = 5;
  options_.max_sequences = 1;
  auto running = ask(1, {1}, 500);
  running.timeout = 100ms;
  auto waiting = ask(2, {1}, 500);
  waiting.timeout = 50ms;
  CollectedEvents first, second;
  engine().generate(running, first.sink());
  engine().generate(waiting, second.sink());
  second.wait();
  EXPECT_FALSE(first.over());
  first.wait();
  EXPECT_EQ(first.error_code(), ErrorCode::deadline_exceeded);
  EXPECT_EQ(second.error_code(), ErrorCode::deadline_exceeded);
  EXPECT_FALSE(first.tokens().empty());
  wait_until_idle();
}

TEST_F(LocalEngineTest, ShutdownEndsEverythingWithAnError) {
  switches_.step_ms = 2;
  CollectedEvents running, loading;
  engine().generate(ask(1, {1}, 500), running.sink());
  running.wait_for_tokens(1);
  engine_.reset();
  EXPECT_EQ(running.error_code(), ErrorCode::engine_unavailable);
  switches_.load_ms = 60000;
  engine().generate(ask(1, {1}, 500), loading.sink());
  engine_.reset();  // does not wait for the load
  EXPECT_EQ(loading.error_code(), ErrorCode::engine_unavailable);
}

TEST_F(LocalEngineTest, TicksWhileIdle) {
  const auto first = wait_for([](const EngineStatus& s) { return s.models[1].state == ModelState::ready; });
  std::this_thread::sleep_for(1200ms);
  EXPECT_GT(engine().status().last_tick, first.last_tick);
  EXPECT_GT(engine().status().memory_bytes, 1u << 20);
}

// Many threads ask, cancel and read the status at once; afterwards no block is in use.
TEST_F(LocalEngineTest, AnyThreadMayCall) {
  options_.kv_bytes = 64 * kFakeBlockBytes;
  engine();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        const auto id = static_cast<RequestId>(t) * 1000 + static_cast<RequestId>(i) + 1;
        CollectedEvents events;
        engine().generate(ask(id, long_prompt(1 + (i * 37 + t) % 200), 20), events.sink());
        if (i % 4 == 0) engine().cancel(id);
        engine().status();
        events.wait();
        if (events.error_code()) {
          EXPECT_EQ(events.error_code(), ErrorCode::cancelled);
        } else {
          EXPECT_EQ(events.tokens(), fake_reply(long_prompt(1 + (i * 37 + t) % 200), 20));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  wait_until_idle();
}

}  // namespace
}  // namespace cortex
