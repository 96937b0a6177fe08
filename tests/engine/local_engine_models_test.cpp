// Models that come and go while LocalEngine runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <thread>

#include "backend/golden.h"
#include "base/resident_memory.h"
#include "engine/local_engine_fixture.h"
#include "fakes/requests.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class LocalEngineModelsTest : public LocalEngineFixture {
 protected:
  LocalEngineModelsTest() { options_.models[0].load_at_start = false; }

  EngineStatus wait_for_state(std::size_t model, ModelState state) {
    return wait_for([&](const EngineStatus& s) { return s.models[model].state == state; });
  }
  // What becomes of it, and the model's state when that is told.
  using Outcome = std::pair<std::optional<Error>, ModelState>;
  std::future<Outcome> change(const std::string& model, bool loads) {
    auto promise = std::make_shared<std::promise<Outcome>>();
    auto outcome = promise->get_future();
    ModelSink sink = [promise, this, model](std::optional<Error> error) {
      ModelState state = ModelState::failed;
      for (const auto& status : engine_->status().models) {
        if (status.name == model) state = status.state;
      }
      promise->set_value({std::move(error), state});
    };
    if (loads) {
      engine().load_model(model, std::move(sink));
    } else {
      engine().unload_model(model, std::move(sink));
    }
    return outcome;
  }
  Outcome load(const std::string& model) { return change(model, true).get(); }
  Outcome unload(const std::string& model) { return change(model, false).get(); }

  std::vector<TokenId> reply_to(const GenerateRequest& request) {
    CollectedEvents events;
    engine().generate(request, events.sink());
    events.wait();
    EXPECT_FALSE(events.error()) << events.error()->message();
    return events.tokens();
  }
};

TEST_F(LocalEngineModelsTest, AModelComesWithItsFirstRequest) {
  const auto status = wait_for_state(1, ModelState::ready);
  EXPECT_EQ(status.models[0].state, ModelState::unloaded);
  EXPECT_EQ(switches_.loaded, 1);
  EXPECT_EQ(reply_to(ask(1, {1, 2, 3}, 5)), fake_reply({1, 2, 3}, 5));
  EXPECT_EQ(engine().status().models[0].state, ModelState::ready);
}

TEST_F(LocalEngineModelsTest, ALoadOnDemandStallsNobodyAndSaysWhatItIs) {
  wait_for_state(1, ModelState::ready);
  switches_.load_ms = 300;
  CollectedEvents waiting, late;
  engine().generate(ask(1, {1, 2}, 3), waiting.sink());
  auto hurried = ask(2, {1, 2}, 3);
  hurried.timeout = 20ms;
  engine().generate(hurried, late.sink());
  EXPECT_TRUE(wait_for_state(0, ModelState::loading).models[0].on_demand);
  EncodeRequest request;
  request.id = 3;
  request.model = "e";
  request.texts = {{1, 2}};
  CollectedReply reply;
  engine().encode(request, reply.sink());
  EXPECT_FALSE(reply.wait().error);
  late.wait();
  EXPECT_EQ(late.error_code(), ErrorCode::deadline_exceeded);
  EXPECT_FALSE(waiting.over());
  waiting.wait();
  EXPECT_EQ(waiting.tokens(), fake_reply({1, 2}, 3));
}

TEST_F(LocalEngineModelsTest, LoadsAndUnloadsWhenTold) {
  EXPECT_EQ(load("m").second, ModelState::ready);
  EXPECT_EQ(load("m").second, ModelState::ready);  // it is there
  EXPECT_EQ(reply_to(ask(1, {1, 2}, 3)), fake_reply({1, 2}, 3));
  const auto gone = unload("m");
  EXPECT_FALSE(gone.first);
  EXPECT_EQ(gone.second, ModelState::unloaded);
  EXPECT_FALSE(unload("m").first);
  const auto status = wait_for_state(1, ModelState::ready);
  EXPECT_EQ(switches_.loaded, 1);
  EXPECT_EQ(status.models[0].bytes, 0u);
  EXPECT_EQ(status.kv_blocks, 0);
  EXPECT_EQ(reply_to(ask(2, {1, 2}, 3)), fake_reply({1, 2}, 3));  // brings it back
}

TEST_F(LocalEngineModelsTest, WhatIsNotConfiguredIsNotFound) {
  for (const auto& outcome : {load("nobody"), unload("nobody")}) {
    ASSERT_TRUE(outcome.first);
    EXPECT_EQ(outcome.first->code(), ErrorCode::model_not_found);
    EXPECT_EQ(outcome.first->param(), "model");
  }
}

TEST_F(LocalEngineModelsTest, RequestsOfAModelThatGoesEnd) {
  options_.max_sequences = 1;
  switches_.step_ms = 2;
  load("m");
  CollectedEvents running, waiting;
  engine().generate(ask(1, {1, 2}, 400), running.sink());
  engine().generate(ask(2, {1, 2}, 400), waiting.sink());
  running.wait_for_tokens(1);
  unload("m");
  running.wait();
  waiting.wait();
  EXPECT_EQ(running.error_code(), ErrorCode::model_loading);
  EXPECT_EQ(waiting.error_code(), ErrorCode::model_loading);
  EXPECT_EQ(wait_for_state(0, ModelState::unloaded).running, 0);
}

TEST_F(LocalEngineModelsTest, ALoadThatIsNotWantedAnyMoreEndsUnloaded) {
  wait_for_state(1, ModelState::ready);
  switches_.load_ms = 200;
  auto loading = change("m", true);
  wait_for([](const EngineStatus& s) { return s.models[0].progress > 0.0; });
  CollectedEvents held;
  engine().generate(ask(1, {1, 2}, 3), held.sink());
  EXPECT_FALSE(unload("m").first);
  held.wait();
  EXPECT_EQ(held.error_code(), ErrorCode::model_loading);
  EXPECT_EQ(loading.get().first->code(), ErrorCode::model_loading);
  wait_for_state(0, ModelState::unloaded);
  EXPECT_EQ(switches_.loaded, 1);
}

TEST_F(LocalEngineModelsTest, ALoadThatIsWantedAgainGoesOn) {
  wait_for_state(1, ModelState::ready);
  switches_.load_ms = 200;
  auto first = change("m", true);
  wait_for([](const EngineStatus& s) { return s.models[0].progress > 0.0; });
  unload("m");
  EXPECT_EQ(reply_to(ask(1, {1, 2}, 3)), fake_reply({1, 2}, 3));
  EXPECT_TRUE(first.get().first);
}

TEST_F(LocalEngineModelsTest, AModelThatFailedIsTriedAgainWhenTold) {
  wait_for_state(1, ModelState::ready);
  switches_.fail_load = true;
  const auto failed = load("m");
  ASSERT_TRUE(failed.first);
  EXPECT_EQ(failed.first->code(), ErrorCode::model_failed);
  EXPECT_THAT(failed.first->message(), HasSubstr("ends early"));
  EXPECT_EQ(failed.second, ModelState::failed);
  CollectedEvents refused;
  engine().generate(ask(1, {1}, 1), refused.sink());
  refused.wait();
  EXPECT_EQ(refused.error_code(), ErrorCode::model_failed);
  switches_.fail_load = false;
  EXPECT_FALSE(load("m").first);
  EXPECT_EQ(reply_to(ask(2, {1, 2}, 3)), fake_reply({1, 2}, 3));
}

TEST_F(LocalEngineModelsTest, WhoStillWaitsAtTheEndHearsOfIt) {
  switches_.load_ms = 60000;
  std::promise<ErrorCode> code;
  engine().load_model("m", [&](const std::optional<Error>& error) { code.set_value(error->code()); });
  engine_.reset();
  EXPECT_EQ(code.get_future().get(), ErrorCode::engine_unavailable);
}

TEST_F(LocalEngineModelsTest, AnIdleModelGoesByItselfUnlessItIsPinned) {
  options_.clock = &clock_;
  options_.idle_turn_ms = 5;
  options_.idle_unload_s = 60;
  options_.models[1].pinned = true;
  wait_for_state(1, ModelState::ready);
  load("m");
  clock_.advance(30s);
  EXPECT_EQ(reply_to(ask(1, {1, 2}, 3)), fake_reply({1, 2}, 3));
  wait_for([](const EngineStatus& s) { return s.state == EngineState::idle; });
  std::this_thread::sleep_for(30ms);
  clock_.advance(59s);
  wait_for([](const EngineStatus& s) { return s.models[0].idle_s == 59.0; });
  EXPECT_EQ(engine().status().models[0].state, ModelState::ready);
  clock_.advance(1s);
  wait_for_state(0, ModelState::unloaded);
  EXPECT_EQ(engine().status().models[1].state, ModelState::ready);
  EXPECT_TRUE(engine().status().models[1].pinned);
  EXPECT_EQ(reply_to(ask(2, {1, 2}, 3)), fake_reply({1, 2}, 3));
}

// Two decoders, of which the limit holds one and a half.
class LocalEngineCeilingTest : public LocalEngineModelsTest {
 protected:
  static constexpr std::uint64_t kWeightBytes = kFakeFixedBytes + kFakeLayers * kFakeLayerBytes;
  static constexpr int kBlocks = 40, kRows = 128;
  static constexpr std::uint64_t kWholeBytes = kWeightBytes + kBlocks * kFakeBlockBytes + kRows * kFakeRowBytes;

  LocalEngineCeilingTest() {
    options_.models = {{"m", "decoder"}, {"n", "decoder"}};
    for (ModelConfig& model : options_.models) {
      model.load_at_start = false;
      model.kind = ModelKind::rerank;  // that takes no grammars
    }
    options_.kv_bytes = kBlocks * kFakeBlockBytes;
    options_.rows_per_step = kRows;
    options_.max_sequences = 8;
    options_.memory_bytes = kWholeBytes + kWholeBytes / 2;
  }
  GenerateRequest ask_n(RequestId id, int max_tokens) {
    GenerateRequest request = ask(id, {1, 2}, max_tokens);
    request.model = "n";
    return request;
  }
};

TEST_F(LocalEngineCeilingTest, AnIdleModelMakesRoomRatherThanThatAnotherIsCutDown) {
  EXPECT_FALSE(load("m").first);
  const std::string plan = engine().status().models[0].plan;
  EXPECT_THAT(plan, HasSubstr("as given"));
  EXPECT_FALSE(load("n").first);
  const auto status = wait_for_state(1, ModelState::ready);
  EXPECT_EQ(status.models[0].state, ModelState::unloaded);
  EXPECT_EQ(status.models[1].plan, plan);
  EXPECT_EQ(status.models[0].plan, "");
  EXPECT_EQ(status.budget_bytes, *options_.memory_bytes);
  EXPECT_EQ(reply_to(ask(1, {1, 2}, 3)), fake_reply({1, 2}, 3));  // and back
  EXPECT_EQ(engine().status().models[1].state, ModelState::unloaded);
}

TEST_F(LocalEngineCeilingTest, BothStayWhereBothFit) {
  options_.memory_bytes = 2 * kWholeBytes;
  EXPECT_FALSE(load("m").first);
  EXPECT_FALSE(load("n").first);
  EXPECT_EQ(engine().status().models[0].state, ModelState::ready);
}

TEST_F(LocalEngineCeilingTest, BesideOneThatIsBusyAnotherIsCutDown) {
  switches_.step_ms = 2;
  load("m");
  CollectedEvents busy;
  engine().generate(ask(1, {1, 2}, 300), busy.sink());
  busy.wait_for_tokens(1);
  EXPECT_EQ(reply_to(ask_n(2, 3)), fake_reply({1, 2}, 3));
  EXPECT_FALSE(busy.over());
  const auto status = engine().status();
  EXPECT_EQ(status.models[0].state, ModelState::ready);
  EXPECT_NE(status.models[1].plan, status.models[0].plan);
  busy.wait();
  EXPECT_EQ(busy.tokens(), fake_reply({1, 2}, 300));
}

TEST_F(LocalEngineCeilingTest, OneThatHasNoRoomWaitsUntilAnotherIsIdle) {
  switches_.step_ms = 2;
  options_.memory_bytes = kWholeBytes + 1;
  load("m");
  CollectedEvents busy, patient, late;
  engine().generate(ask(1, {1, 2}, 100), busy.sink());
  busy.wait_for_tokens(1);
  engine().generate(ask_n(2, 3), patient.sink());
  auto hurried = ask_n(3, 3);
  hurried.timeout = 20ms;
  engine().generate(hurried, late.sink());
  late.wait();
  EXPECT_EQ(late.error_code(), ErrorCode::deadline_exceeded);
  EXPECT_FALSE(busy.over());
  EXPECT_EQ(engine().status().models[1].state, ModelState::loading);
  patient.wait();
  EXPECT_TRUE(busy.over());
  EXPECT_EQ(busy.tokens(), fake_reply({1, 2}, 100));
  EXPECT_EQ(patient.tokens(), fake_reply({1, 2}, 3));
}

TEST_F(LocalEngineCeilingTest, WhatPinnedOnesLeaveIsAllThereIs) {
  options_.memory_bytes = kWholeBytes + 1;
  options_.models[0].pinned = true;
  load("m");
  const auto outcome = load("n");
  ASSERT_TRUE(outcome.first);
  EXPECT_EQ(outcome.first->code(), ErrorCode::request_cannot_fit);
  EXPECT_EQ(outcome.second, ModelState::failed);
  EXPECT_EQ(engine().status().models[0].state, ModelState::ready);
  CollectedEvents refused;
  engine().generate(ask_n(1, 3), refused.sink());
  refused.wait();
  EXPECT_EQ(refused.error_code(), ErrorCode::model_failed);
  unload("m");
  EXPECT_FALSE(load("n").first);
}

TEST_F(LocalEngineCeilingTest, OneThatGrowsPastItsPlanPushesIdleOnesOut) {
  switches_.step_ms = 2;
  options_.memory_bytes = 2 * kWholeBytes;
  load("m");
  load("n");
  CollectedEvents busy;
  engine().generate(ask(1, {1, 2}, 100), busy.sink());
  busy.wait_for_tokens(1);
  EXPECT_EQ(engine().status().models[1].state, ModelState::ready);
  switches_.grown_bytes = kWholeBytes;
  wait_for_state(1, ModelState::unloaded);
  busy.wait();
  EXPECT_EQ(busy.tokens(), fake_reply({1, 2}, 100));
}

TEST_F(LocalEngineCeilingTest, AModelThatNeverFitsFailsWithTheNumbers) {
  options_.memory_bytes = 1000;
  const auto outcome = load("m");
  ASSERT_TRUE(outcome.first);
  EXPECT_EQ(outcome.first->code(), ErrorCode::request_cannot_fit);
  EXPECT_THAT(outcome.first->message(), HasSubstr("needs at least"));
  EXPECT_EQ(switches_.loaded, 0);
}

TEST_F(LocalEngineCeilingTest, AtTheStartAllShareTheRoom) {
  for (ModelConfig& model : options_.models) model.load_at_start = true;
  wait_for([](const EngineStatus& s) {
    return s.models[0].state == ModelState::ready && s.models[1].state == ModelState::ready;
  });
  EXPECT_EQ(reply_to(ask(1, {1, 2}, 3)), fake_reply({1, 2}, 3));
  EXPECT_EQ(reply_to(ask_n(2, 3)), fake_reply({1, 2}, 3));
  EXPECT_EQ(switches_.loaded, 2);
}

// With a real model: what was resident before a load is resident after the unload.
TEST(LocalEngineMemoryTest, FiveLoadsLeaveNothingBehind) {
  LocalEngineOptions options;
  options.models = {{"m", golden_model("llama").string()}};
  options.models[0].load_at_start = false;
  options.backend = "cpu";
  options.threads = 1;
  options.kv_bytes = std::uint64_t{256} << 20;
  LocalEngine engine(options);
  const auto change = [&](bool loads) {
    std::promise<bool> good;
    const ModelSink sink = [&](const std::optional<Error>& error) { good.set_value(!error); };
    loads ? engine.load_model("m", sink) : engine.unload_model("m", sink);
    return good.get_future().get();
  };
  std::vector<std::uint64_t> resident;
  std::vector<TokenId> expected;
  for (RequestId round = 1; round <= 6; ++round) {
    ASSERT_TRUE(change(true));
    std::vector<TokenId> prompt;
    for (int i = 0; i < 60; ++i) prompt.push_back(3 + i);
    GenerateRequest request = ask(round, prompt, 20);
    request.sampling.temperature = 0.0f;
    CollectedEvents events;
    engine.generate(request, events.sink());
    events.wait();
    if (expected.empty()) expected = events.tokens();
    EXPECT_EQ(events.tokens(), expected);
    ASSERT_TRUE(change(false));
    resident.push_back(resident_bytes());
  }
  for (const std::uint64_t bytes : resident) {
    EXPECT_LT(static_cast<double>(bytes), 1.1 * static_cast<double>(resident.front()));
  }
}

}  // namespace
}  // namespace cortex
