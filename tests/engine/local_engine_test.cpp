#include "engine/local_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <future>

#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/fake_clock.h"
#include "fakes/requests.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

EncodeRequest texts(RequestId id, std::vector<std::vector<TokenId>> all) {
  EncodeRequest request;
  request.id = id;
  request.model = "e";
  request.texts = std::move(all);
  return request;
}

std::vector<TokenId> long_prompt(int tokens) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < tokens; ++i) prompt.push_back(200 + i * 7 % 300);
  return prompt;
}

class LocalEngineTest : public testing::Test {
 protected:
  LocalEngineTest() {
    options_.models = {{"m", "decoder"}, {"e", "encoder"}};
    options_.backend = "fake";
    options_.open_model = open_fake_model;
    options_.open_backend = [this](std::string_view name, const BackendOptions&) {
      return std::make_unique<FakeBackend>(std::string(name), &switches_);
    };
  }

  LocalEngine& engine() {
    if (!engine_) engine_ = std::make_unique<LocalEngine>(options_);
    return *engine_;
  }

  // Waits until the published status satisfies it.
  EngineStatus wait_for(const std::function<bool(const EngineStatus&)>& condition) {
    for (int i = 0; i < 5000; ++i) {
      const EngineStatus status = engine().status();
      if (condition(status)) return status;
      std::this_thread::sleep_for(2ms);
    }
    throw std::runtime_error("the status never came");
  }
  EngineStatus wait_until_idle() {
    return wait_for([](const EngineStatus& status) {
      return status.state == EngineState::idle && status.kv_blocks_used == 0 && status.running == 0;
    });
  }

  std::optional<Error> refusal(const GenerateRequest& request) {
    CollectedEvents events;
    engine().generate(request, events.sink());
    events.wait();
    EXPECT_EQ(events.events().size(), 1u);
    return events.error();
  }
  std::optional<Error> refusal(const EncodeRequest& request) {
    CollectedReply reply;
    engine().encode(request, reply.sink());
    return reply.wait().error;
  }

  FakeSwitches switches_;
  LocalEngineOptions options_;
  std::unique_ptr<LocalEngine> engine_;
};

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
  FakeClock clock;
  std::promise<void> both_came;
  std::vector<std::string> phases;  // the engine thread's, until the engine is gone
  switches_.clock = &clock;
  switches_.step_ms = 2;
  options_.clock = &clock;
  options_.encode_batch_tokens = 4;
  options_.failpoint = [&, came = both_came.get_future().share()](std::string_view phase, std::span<const TokenId>) {
    if (phase == "loading") return;
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

TEST_F(LocalEngineTest, RefusesWhatIsOutOfRange) {
  auto request = ask(1, {1, kFakeVocabulary}, 5);
  auto error = refusal(request);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::invalid_token_id);
  EXPECT_THAT(error->message(), HasSubstr("prompt[1]: token id 1000 is not in the vocabulary of 1000"));
  EXPECT_EQ(refusal(ask(1, {-1}, 5))->code(), ErrorCode::invalid_token_id);
  EXPECT_EQ(refusal(ask(1, {}, 5))->code(), ErrorCode::empty_input);
  EXPECT_EQ(refusal(ask(1, {1}, -1))->code(), ErrorCode::invalid_value);
  request = ask(1, {1}, 5);
  request.logit_bias = {{kFakeVocabulary, 1.0f}};
  EXPECT_EQ(refusal(request)->code(), ErrorCode::invalid_token_id);
  request = ask(1, {1}, 5);
  request.sampling.top_p = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(refusal(request)->code(), ErrorCode::invalid_value);
  request = ask(1, {1}, 5);
  request.model = "nobody";
  EXPECT_EQ(refusal(request)->code(), ErrorCode::model_not_found);
  request.model = "e";
  EXPECT_EQ(refusal(request)->code(), ErrorCode::model_not_capable);
}

TEST_F(LocalEngineTest, RefusesWhatExceedsTheContext) {
  const auto error = refusal(ask(1, long_prompt(500), 13));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::context_length_exceeded);
  EXPECT_THAT(error->message(), HasSubstr("512"));
  EXPECT_THAT(error->message(), HasSubstr("513"));
  CollectedEvents fits;
  engine().generate(ask(2, long_prompt(500), 12), fits.sink());
  fits.wait();
  EXPECT_EQ(fits.finish(), FinishReason::length);
}

TEST_F(LocalEngineTest, RefusesWhatThePoolCanNeverHold) {
  options_.kv_bytes = 4 * kFakeBlockBytes;
  const auto error = refusal(ask(1, long_prompt(60), 5));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::request_cannot_fit);
}

TEST_F(LocalEngineTest, RefusesTextsThatItCanNotEncode) {
  EXPECT_EQ(refusal(texts(1, {}))->code(), ErrorCode::empty_input);
  EXPECT_EQ(refusal(texts(1, {{1}, {}}))->code(), ErrorCode::empty_input);
  EXPECT_EQ(refusal(texts(1, {{kFakeVocabulary}}))->code(), ErrorCode::invalid_token_id);
  EXPECT_EQ(refusal(texts(1, {long_prompt(513)}))->code(), ErrorCode::context_length_exceeded);
  auto typed = texts(1, {{1, 2}});
  typed.types = {{0}};
  EXPECT_EQ(refusal(typed)->code(), ErrorCode::invalid_value);
  typed.types = {{0, 2}};
  EXPECT_EQ(refusal(typed)->code(), ErrorCode::invalid_value);
  auto scored = texts(1, {{1}});
  scored.scores = {1};
  EXPECT_EQ(refusal(scored)->code(), ErrorCode::invalid_value);
  scored.model = "m";
  EXPECT_FALSE(refusal(scored));
  scored.scores = {kFakeVocabulary};
  EXPECT_EQ(refusal(scored)->code(), ErrorCode::invalid_token_id);
}

// Texts for the decoder, of every length around the blocks' and the steps'.
EncodeRequest ragged(RequestId id, int count) {
  EncodeRequest request = texts(id, {});
  request.model = "m";
  for (int i = 0; i < count; ++i) request.texts.push_back(long_prompt(1 + i * 37 % 200));
  return request;
}

TEST_F(LocalEngineTest, ADecoderGivesTheLastStateOfEveryTextInOrder) {
  options_.rows_per_step = 40;
  options_.max_sequences = 6;
  options_.kv_bytes = 20 * kFakeBlockBytes;
  const EncodeRequest request = ragged(1, 40);
  std::vector<float> expected;
  for (const auto& text : request.texts) {
    expected.push_back(static_cast<float>(text.size()));
    expected.push_back(static_cast<float>(text.front()));
  }
  CollectedReply reply;
  engine().encode(request, reply.sink());
  const EncodeReply encoded = reply.wait();
  ASSERT_FALSE(encoded.error) << encoded.error->message();
  EXPECT_EQ(encoded.dimensions, 2);
  EXPECT_EQ(encoded.vectors, expected);
  EXPECT_GE(encoded.queue_ms, 0.0);
  EXPECT_GT(encoded.compute_ms, 0.0);
  wait_until_idle();
}

TEST_F(LocalEngineTest, ADecoderScoresWhatMayComeNextBesideAChat) {
  options_.rows_per_step = 40;
  options_.max_sequences = 6;
  EncodeRequest request = ragged(1, 40);
  request.scores = {120, 700};
  std::vector<float> expected;
  for (const auto& text : request.texts) {
    for (const TokenId token : request.scores) expected.push_back(fake_score(text, token));
  }
  CollectedReply reply;
  CollectedEvents events;
  engine().encode(request, reply.sink());
  engine().generate(ask(2, {1, 2, 3}, 60), events.sink());
  EXPECT_EQ(reply.wait().vectors, expected);
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply({1, 2, 3}, 60));
  wait_until_idle();
}

TEST_F(LocalEngineTest, AChatDoesNotWaitForAllTextsOfARequest) {
  switches_.step_ms = 1;
  options_.rows_per_step = 64;
  options_.max_sequences = 8;
  EncodeRequest request = texts(1, std::vector<std::vector<TokenId>>(200, long_prompt(64)));
  request.model = "m";
  CollectedReply reply;
  engine().encode(request, reply.sink());
  const auto before = wait_for([](const EngineStatus& status) { return status.steps > 2; });
  EXPECT_EQ(before.running, 1);
  EXPECT_EQ(before.waiting, 0);
  CollectedEvents events;
  engine().generate(ask(2, long_prompt(30), 3), events.sink());
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply(long_prompt(30), 3));
  EXPECT_LT(engine().status().steps, before.steps + 100);
  EXPECT_EQ(reply.wait().vectors.size(), 400u);
}

TEST_F(LocalEngineTest, CancelAndDeadlineEndAllTextsOfARequest) {
  switches_.step_ms = 2;
  EncodeRequest request = texts(1, std::vector<std::vector<TokenId>>(500, long_prompt(200)));
  for (std::size_t i = 0; i < 500; ++i) request.texts[i].front() = static_cast<TokenId>(100 + i);
  request.model = "m";
  CollectedReply cancelled, late;
  engine().encode(request, cancelled.sink());
  wait_for([](const EngineStatus& status) { return status.kv_blocks_used > 0; });
  engine().cancel(1);
  EXPECT_EQ(cancelled.wait().error->code(), ErrorCode::cancelled);
  wait_until_idle();
  request.id = 2;
  request.timeout = 30ms;
  engine().encode(request, late.sink());
  EXPECT_EQ(late.wait().error->code(), ErrorCode::deadline_exceeded);
  wait_until_idle();
}

TEST_F(LocalEngineTest, ABrokenTextFailsItsRequestOnly) {
  CollectedReply sound, broken, thrown;
  auto request = ragged(1, 10);
  request.texts[3].back() = kFakeNan;
  engine().encode(request, broken.sink());
  engine().encode(ragged(2, 10), sound.sink());
  EXPECT_EQ(broken.wait().error->code(), ErrorCode::numerical_error);
  EXPECT_EQ(sound.wait().vectors.size(), 20u);
  request = ragged(3, 10);
  request.texts[9].back() = kFakeThrow;
  engine().encode(request, thrown.sink());
  EXPECT_EQ(thrown.wait().error->code(), ErrorCode::weights_io_error);
  wait_until_idle();
}

TEST_F(LocalEngineTest, ATextThatThePoolCanNeverHoldIsRefused) {
  options_.kv_bytes = 4 * kFakeBlockBytes;
  auto request = texts(1, {{1}, long_prompt(65)});
  request.model = "m";
  EXPECT_EQ(refusal(request)->code(), ErrorCode::request_cannot_fit);
  request.texts.back() = long_prompt(64);
  EXPECT_FALSE(refusal(request));
  wait_until_idle();
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

TEST_F(LocalEngineTest, ASinkThatThrowsLosesOnlyItsEvent) {
  engine().generate(ask(1, {1, 2}, 3), [](const GenerateEvent&) { throw std::runtime_error("sink"); });
  CollectedEvents events;
  engine().generate(ask(2, {1, 2}, 3), events.sink());
  events.wait();
  EXPECT_EQ(events.finish(), FinishReason::length);
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

TEST_F(LocalEngineTest, AFailedStepEndsItsRequestsOnly) {
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

TEST_F(LocalEngineTest, ThreeFailedStepsInARowAreFailing) {
  for (RequestId id = 1; id <= 3; ++id) refusal(ask(id, {kFakeThrow}, 5));
  const auto status = wait_for([](const EngineStatus& s) { return s.state == EngineState::failing; });
  EXPECT_EQ(status.consecutive_failures, 3);
  CollectedEvents sound;
  engine().generate(ask(4, {1, 2}, 5), sound.sink());
  sound.wait();
  EXPECT_EQ(wait_until_idle().consecutive_failures, 0);
}

TEST_F(LocalEngineTest, GoodStepsOfOneModelDoNotHideAnother) {
  for (RequestId id = 1; id <= 3; ++id) {
    EXPECT_EQ(refusal(ask(id, {kFakeThrow}, 5))->code(), ErrorCode::weights_io_error);
    EXPECT_FALSE(refusal(texts(id + 10, {{1, 2}})));
  }
  const auto status = wait_for([](const EngineStatus& s) { return s.state == EngineState::failing; });
  EXPECT_EQ(status.consecutive_failures, 3);
}

TEST_F(LocalEngineTest, ADeadDecoderFailsItsModelOnly) {
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

TEST_F(LocalEngineTest, AModelThatCanNotBeInstalledKeepsNoWeights) {
  options_.kv_bytes = kFakeBlockBytes - 1;
  const auto status = wait_for([](const EngineStatus& s) {
    return s.models[0].state == ModelState::failed && s.models[1].state == ModelState::ready;
  });
  EXPECT_THAT(status.models[0].failure, HasSubstr("kv_bytes"));
  EXPECT_EQ(status.models[0].bytes, 0u);
  EXPECT_EQ(switches_.loaded, 1);
  EXPECT_EQ(refusal(ask(1, {1}, 1))->code(), ErrorCode::model_failed);
}

TEST_F(LocalEngineTest, NumbersThatAreNotFiniteFailTheirRequest) {
  CollectedEvents broken, sound;
  engine().generate(ask(1, {1, kFakeNan}, 5), broken.sink());
  engine().generate(ask(2, {1, 2}, 5), sound.sink());
  broken.wait();
  sound.wait();
  EXPECT_EQ(broken.error_code(), ErrorCode::numerical_error);
  EXPECT_EQ(sound.tokens(), fake_reply({1, 2}, 5));
  EXPECT_EQ(refusal(texts(3, {{kFakeNan}}))->code(), ErrorCode::numerical_error);
}

TEST_F(LocalEngineTest, RequestsWaitWhileTheModelLoads) {
  switches_.load_ms = 200;
  CollectedEvents patient, late, cancelled;
  engine().generate(ask(1, {1, 2}, 3), patient.sink());
  auto hurried = ask(2, {1, 2}, 3);
  hurried.timeout = 20ms;
  engine().generate(hurried, late.sink());
  engine().generate(ask(3, {1, 2}, 3), cancelled.sink());
  engine().cancel(3);
  late.wait();
  cancelled.wait();
  EXPECT_EQ(late.error_code(), ErrorCode::deadline_exceeded);
  EXPECT_EQ(cancelled.error_code(), ErrorCode::cancelled);
  EXPECT_FALSE(patient.over());
  const auto loading = wait_for([](const EngineStatus& s) { return s.models[0].progress > 0.0 && s.waiting == 1; });
  EXPECT_EQ(loading.models[0].state, ModelState::loading);
  patient.wait();
  EXPECT_EQ(patient.tokens(), fake_reply({1, 2}, 3));
  const auto status = wait_until_idle();
  EXPECT_EQ(status.models[0].state, ModelState::ready);
  EXPECT_EQ(status.models[0].backend, "fake");
  EXPECT_EQ(status.models[0].device, "fake");
  EXPECT_GT(status.models[0].bytes, 0u);
}

TEST_F(LocalEngineTest, AModelThatFailsToLoadFailsItsRequests) {
  switches_.load_ms = 20;
  switches_.fail_load = true;
  EXPECT_EQ(refusal(ask(1, {1}, 1))->code(), ErrorCode::model_failed);  // came while it loaded
  const auto status = wait_for([](const EngineStatus& s) { return s.models[0].state == ModelState::failed; });
  EXPECT_EQ(status.models[0].failure, "fake.safetensors ends early");
  const auto error = refusal(ask(2, {1}, 1));
  EXPECT_EQ(error->code(), ErrorCode::model_failed);
  EXPECT_THAT(error->message(), HasSubstr("fake.safetensors ends early"));
}

TEST_F(LocalEngineTest, AutoTakesTheBackendThatLacksNothing) {
  options_.backend = "auto";
  options_.open_backend = [this](std::string_view name, const BackendOptions&) -> std::unique_ptr<Backend> {
    if (name == "auto") return std::make_unique<FakeBackend>("cpu", &switches_, "soft caps");
    return std::make_unique<FakeBackend>(std::string(name), &switches_);
  };
  const auto status = wait_for([](const EngineStatus& s) { return s.models[0].state == ModelState::ready; });
  EXPECT_EQ(status.models[0].backend, "mlx");
}

TEST_F(LocalEngineTest, ANamedBackendThatLacksSomethingFailsTheModel) {
  options_.open_backend = [this](std::string_view, const BackendOptions&) {
    return std::make_unique<FakeBackend>("fake", &switches_, "soft caps");
  };
  const auto status = wait_for([](const EngineStatus& s) { return s.models[0].state == ModelState::failed; });
  EXPECT_EQ(status.models[0].failure, "backend fake lacks soft caps");
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

TEST_F(LocalEngineTest, AFailpointFailsOneStep) {
  std::atomic<bool> armed = true;
  options_.failpoint = [&](std::string_view phase, std::span<const TokenId> tokens) {
    if (phase == "loading") return;
    EXPECT_FALSE(tokens.empty());
    if (armed.exchange(false)) throw std::runtime_error("failpoint");
  };
  EXPECT_EQ(refusal(ask(1, {1}, 3))->message(), "failpoint");
  CollectedEvents sound;
  engine().generate(ask(2, {1}, 3), sound.sink());
  sound.wait();
  EXPECT_EQ(sound.finish(), FinishReason::length);
}

TEST_F(LocalEngineTest, RefusesOptionsThatDoNotFit) {
  options_.rows_per_step = 10;
  EXPECT_THROW(LocalEngine{options_}, Error);
  options_.rows_per_step = 256;
  options_.models = {{"m", "decoder"}, {"m", "decoder"}};
  EXPECT_THROW(LocalEngine{options_}, Error);
}

TEST_F(LocalEngineTest, RefusesAnIdThatIsInUse) {
  switches_.step_ms = 2;
  CollectedEvents first;
  engine().generate(ask(1, {1}, 400), first.sink());
  EXPECT_EQ(refusal(ask(1, {1}, 400))->code(), ErrorCode::internal_error);
  engine().cancel(1);
  first.wait();
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
