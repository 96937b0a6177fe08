// What fails in LocalEngine's steps, and whom it costs what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "engine/local_engine_fixture.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/requests.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class LocalEngineFailureTest : public LocalEngineFixture {};

TEST_F(LocalEngineFailureTest, ASinkThatThrowsLosesOnlyItsEvent) {
  engine().generate(ask(1, {1, 2}, 3), [](const GenerateEvent&) { throw std::runtime_error("sink"); });
  CollectedEvents events;
  engine().generate(ask(2, {1, 2}, 3), events.sink());
  events.wait();
  EXPECT_EQ(events.finish(), FinishReason::length);
}

TEST_F(LocalEngineFailureTest, AFailedStepEndsItsRequestsOnly) {
  CollectedEvents broken, sound;
  engine().generate(ask(1, {1, kFakeThrow}, 5), broken.sink());
  broken.wait();
  EXPECT_EQ(broken.error_code(), ErrorCode::weights_io_error);
  engine().generate(ask(2, {1, 2}, 5), sound.sink());
  sound.wait();
  EXPECT_EQ(sound.tokens(), fake_reply({1, 2}, 5));
  CollectedReply reply;
  engine().encode(texts(3, {{kFakeThrow}}), reply.sink());
  const auto error = reply.wait().error;
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::internal_error);
  EXPECT_EQ(error->message(), "the fake device is gone");
  wait_for([](const EngineStatus& s) { return s.consecutive_failures == 1; });
}

TEST_F(LocalEngineFailureTest, ThreeFailedStepsInARowAreFailing) {
  for (RequestId id = 1; id <= 3; ++id) refusal(ask(id, {kFakeThrow}, 5));
  const auto status = wait_for([](const EngineStatus& s) { return s.state == EngineState::failing; });
  EXPECT_EQ(status.consecutive_failures, 3);
  CollectedEvents sound;
  engine().generate(ask(4, {1, 2}, 5), sound.sink());
  sound.wait();
  EXPECT_EQ(wait_until_idle().consecutive_failures, 0);
}

TEST_F(LocalEngineFailureTest, GoodStepsOfOneModelDoNotHideAnother) {
  for (RequestId id = 1; id <= 3; ++id) {
    EXPECT_EQ(refusal(ask(id, {kFakeThrow}, 5))->code(), ErrorCode::weights_io_error);
    EXPECT_FALSE(refusal(texts(id + 10, {{1, 2}})));
  }
  const auto status = wait_for([](const EngineStatus& s) { return s.state == EngineState::failing; });
  EXPECT_EQ(status.consecutive_failures, 3);
}

TEST_F(LocalEngineFailureTest, ADeadDecoderFailsItsModelOnly) {
  options_.max_sequences = 1;
  switches_.step_ms = 2;
  CollectedEvents running, waiting;
  engine().generate(ask(1, {1, 2}, 400), running.sink());
  engine().generate(ask(2, {1, 2}, 400), waiting.sink());
  running.wait_for_tokens(1);
  EXPECT_EQ(switches_.loaded, 2);
  switches_.break_decoders = true;
  running.wait();
  waiting.wait();
  EXPECT_EQ(running.error_code(), ErrorCode::model_failed);
  EXPECT_EQ(waiting.error_code(), ErrorCode::model_failed);
  EXPECT_THAT(running.error()->message(), HasSubstr("the fake device failed"));
  switches_.break_decoders = false;
  for (RequestId id = 3; id <= 6; ++id) {
    const auto error = refusal(ask(id, {1}, 1));
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::model_failed);
    EXPECT_EQ(error->message(), "model m failed: the fake device failed");
    EXPECT_FALSE(refusal(texts(id + 10, {{1, 2}})));
  }
  const auto status = wait_until_idle();
  EXPECT_EQ(status.models[0].state, ModelState::failed);
  EXPECT_EQ(status.models[0].failure, "the fake device failed");
  EXPECT_EQ(status.models[0].bytes, 0u);
  EXPECT_EQ(status.models[1].state, ModelState::ready);
  EXPECT_EQ(status.consecutive_failures, 0);  // of the models that still step
  EXPECT_EQ(switches_.loaded, 1);             // its weights are given back
}

TEST_F(LocalEngineFailureTest, NumbersThatAreNotFiniteFailTheirRequest) {
  CollectedEvents broken, sound;
  engine().generate(ask(1, {1, kFakeNan}, 5), broken.sink());
  engine().generate(ask(2, {1, 2}, 5), sound.sink());
  broken.wait();
  sound.wait();
  EXPECT_EQ(broken.error_code(), ErrorCode::numerical_error);
  EXPECT_EQ(sound.tokens(), fake_reply({1, 2}, 5));
  EXPECT_EQ(refusal(texts(3, {{kFakeNan}}))->code(), ErrorCode::numerical_error);
}

TEST_F(LocalEngineFailureTest, AFailpointFailsOneStep) {
  std::atomic<bool> armed = true;
  options_.failpoint = [&](std::string_view phase, std::span<const TokenId> tokens) {
    if (phase == "loading") return;
    EXPECT_FALSE(tokens.empty());
    if (phase != "draft" && armed.exchange(false)) throw std::runtime_error("failpoint");
  };
  EXPECT_EQ(refusal(ask(1, {1}, 3))->message(), "failpoint");
  CollectedEvents sound;
  engine().generate(ask(2, {1}, 3), sound.sink());
  sound.wait();
  EXPECT_EQ(sound.finish(), FinishReason::length);
}

// What goes wrong with drafts costs drafts, or at most the request whose they are, and never a step.
TEST_F(LocalEngineFailureTest, AFaultOfDraftsFailsAtMostTheirRequest) {
  const std::vector<TokenId> said = fake_reply({1, 2, 3}, 40);
  std::atomic<bool> drafting = false, verifying = false;  // is to fail, once
  options_.clock = &clock_;
  options_.failpoint = [&](std::string_view phase, std::span<const TokenId> tokens) {
    if (phase == "prompt" || phase == "decode") clock_.advance(1ms);  // whatever is in the step: drafts ride
    if (phase == "draft" && drafting.exchange(false)) throw std::runtime_error("no draft");
    if (phase != "verify" || tokens.size() < 2 || std::ranges::search(said, tokens).empty()) return;
    if (verifying.exchange(false)) throw std::runtime_error("not to be verified");
  };
  const auto reply_to = [&](RequestId id, CollectedEvents* events) {
    auto request = ask(id, {1, 2, 3}, 40);
    request.prediction = said;
    engine().generate(request, events->sink());
    events->wait();
    return events->tokens();
  };
  for (RequestId id = 1; id <= 10; ++id) {  // until steps of several rows are known
    CollectedEvents events;
    EXPECT_EQ(reply_to(id, &events), said);
  }
  drafting = true;
  CollectedEvents plain;
  EXPECT_EQ(reply_to(11, &plain), said);
  EXPECT_FALSE(drafting);
  EXPECT_EQ(plain.events().back().timings->draft_tokens, 0);

  verifying = true;
  CollectedEvents other, struck, sound;
  engine().generate(ask(12, {7, 8, 9}, 500), other.sink());
  other.wait_for_tokens(1);
  reply_to(13, &struck);
  EXPECT_FALSE(verifying);
  EXPECT_EQ(struck.error_code(), ErrorCode::internal_error);
  EXPECT_EQ(reply_to(14, &sound), said);
  EXPECT_GT(sound.events().back().timings->draft_accepted, 20);
  other.wait();
  EXPECT_EQ(other.tokens(), fake_reply({7, 8, 9}, 500));
  EXPECT_EQ(wait_until_idle().consecutive_failures, 0);
}

}  // namespace
}  // namespace cortex
