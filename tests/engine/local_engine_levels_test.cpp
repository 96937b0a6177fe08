// LocalEngine under the governor's levels: what each makes it do, and that none of it shows in what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <thread>

#include "engine/local_engine.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/fake_clock.h"
#include "fakes/requests.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

std::vector<TokenId> prompt_of(int tokens, int first = 200) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < tokens; ++i) prompt.push_back(first + i * 7 % 300);
  return prompt;
}

class LocalEngineLevelsTest : public testing::Test {
 protected:
  LocalEngineLevelsTest() {
    folder_.write("model.gguf", "weights");
    options_.models = {{"m", "decoder"}, {"e", "encoder"}};
    options_.backend = "fake";
    options_.max_sequences = 8;
    options_.open_model = [this](const ModelConfig& config) {
      Model model = open_fake_model(config);
      model.path = folder_.path() / "model.gguf";
      return model;
    };
    options_.open_backend = [this](std::string_view name, const BackendOptions&) {
      return std::make_unique<FakeBackend>(std::string(name), &switches_);
    };
  }

  LocalEngine& engine() {
    if (!engine_) {
      engine_ = std::make_unique<LocalEngine>(options_);
      wait_for([](const EngineStatus& s) {
        return s.models[0].state == ModelState::ready && s.models[1].state == ModelState::ready;
      });
    }
    return *engine_;
  }
  EngineStatus wait_for(const std::function<bool(const EngineStatus&)>& condition) {
    for (int i = 0; i < 5000; ++i) {
      const EngineStatus status = engine_->status();
      if (condition(status)) return status;
      std::this_thread::sleep_for(2ms);
    }
    throw std::runtime_error("the status never came");
  }
  void set_level(int level, ErrorCode cause = ErrorCode::memory_pressure) {
    engine().set_budget(budget_at(level, cause));
    wait_for([&](const EngineStatus& s) { return s.level == level; });
  }

  const TemporaryFolder folder_;
  FakeSwitches switches_;
  FakeClock clock_;
  LocalEngineOptions options_;
  std::unique_ptr<LocalEngine> engine_;
};

TEST_F(LocalEngineLevelsTest, WithoutAGovernorItIsAtLevel0ForEver) {
  options_.clock = &clock_;
  options_.idle_turn_ms = 5;
  engine();
  clock_.advance(1h);
  const auto tick = engine().status().last_tick;
  EXPECT_EQ(wait_for([&](const EngineStatus& s) { return s.last_tick > tick; }).level, 0);
}

TEST_F(LocalEngineLevelsTest, ABudgetThatIsNotToldAnewCountsAsLevel1) {
  options_.clock = &clock_;
  options_.idle_turn_ms = 5;
  set_level(0);
  clock_.advance(kBudgetTerm);
  const auto tick = engine().status().last_tick;
  EXPECT_EQ(wait_for([&](const EngineStatus& s) { return s.last_tick > tick; }).level, 0);
  clock_.advance(1ms);
  wait_for([](const EngineStatus& s) { return s.level == 1; });
  set_level(0);
  set_level(3);
  clock_.advance(1h);
  const auto later = engine().status().last_tick;
  EXPECT_EQ(wait_for([&](const EngineStatus& s) { return s.last_tick > later; }).level, 3);
}

TEST_F(LocalEngineLevelsTest, EveryLevelSaysTheSame) {
  switches_.step_ms = 1;
  options_.rows_per_step = 64;
  options_.kv_bytes = 200 * kFakeBlockBytes;
  options_.kv_dir = folder_.path() / "kv";
  options_.kv_disk_free_bytes = 0;
  engine();
  std::deque<CollectedEvents> events(24);
  std::deque<CollectedReply> replies(4);
  RequestId id = 1;
  for (int i = 0; i < 24; ++i) {
    auto request = ask(id++, prompt_of(20 + i * 31 % 200, 200 + i), 60);
    request.priority = i % 3;
    engine().generate(request, events[static_cast<std::size_t>(i)].sink());
  }
  for (auto& reply : replies) {
    EncodeRequest request;
    request.id = id++;
    request.model = "e";
    request.texts = std::vector<std::vector<TokenId>>(50, prompt_of(40));
    engine().encode(request, reply.sink());
  }
  for (int round = 0; round < 3; ++round) {
    for (const int level : {1, 3, 2, 0, 3, 0}) {
      set_level(level, round == 1 ? ErrorCode::thermal_throttled : ErrorCode::memory_pressure);
      std::this_thread::sleep_for(20ms);
    }
  }
  for (int i = 0; i < 24; ++i) {
    auto& mine = events[static_cast<std::size_t>(i)];
    mine.wait();
    EXPECT_EQ(mine.tokens(), fake_reply(prompt_of(20 + i * 31 % 200, 200 + i), 60)) << i;
  }
  for (auto& reply : replies) EXPECT_EQ(reply.wait().vectors.size(), 100u);
  const auto status = wait_for([](const EngineStatus& s) { return s.state == EngineState::idle; });
  EXPECT_GT(status.guard_preempted, 0u);
  EXPECT_EQ(status.guard_cancelled, 0u);
}

TEST_F(LocalEngineLevelsTest, FewerSequencesRunAndTheLeastUrgentStop) {
  switches_.step_ms = 2;
  engine();
  std::deque<CollectedEvents> events(8);
  for (int i = 0; i < 8; ++i) {
    auto request = ask(static_cast<RequestId>(i) + 1, prompt_of(20, 200 + i), 400);
    request.priority = i == 7 ? -1 : 0;
    engine().generate(request, events[static_cast<std::size_t>(i)].sink());
  }
  wait_for([](const EngineStatus& s) { return s.running == 8; });
  set_level(2);
  EXPECT_EQ(wait_for([](const EngineStatus& s) { return s.running == 8; }).guard_preempted, 0u);  // none stops
  set_level(3);
  const auto status = wait_for([](const EngineStatus& s) { return s.running == 2; });
  EXPECT_EQ(status.guard_preempted, 6u);
  EXPECT_EQ(status.waiting, 6);
  const auto first = events[0].tokens().size(), last = events[7].tokens().size();
  const auto stopped = events[6].tokens().size();
  events[0].wait_for_tokens(first + 3);
  events[7].wait_for_tokens(last + 3);
  EXPECT_LE(events[6].tokens().size(), stopped + 1);
  set_level(0);
  wait_for([](const EngineStatus& s) { return s.running == 8; });
  for (RequestId id = 1; id <= 8; ++id) engine().cancel(id);
  for (auto& mine : events) mine.wait();
}

TEST_F(LocalEngineLevelsTest, NoneStartsAboveTheShare) {
  switches_.step_ms = 2;
  set_level(2);
  std::deque<CollectedEvents> events(8);
  for (int i = 0; i < 8; ++i) {
    engine().generate(ask(static_cast<RequestId>(i) + 1, prompt_of(20, 200 + i), 20),
                      events[static_cast<std::size_t>(i)].sink());
  }
  int most = 0;
  for (auto& mine : events) {
    while (!mine.over()) {
      most = std::max(most, engine().status().running);
      std::this_thread::sleep_for(1ms);
    }
  }
  EXPECT_EQ(most, 4);
}

TEST_F(LocalEngineLevelsTest, TheYoungestEndFirstWithTheCause) {
  switches_.step_ms = 2;
  engine();
  std::deque<CollectedEvents> events(4);
  for (int i = 0; i < 4; ++i) {
    engine().generate(ask(static_cast<RequestId>(i) + 1, prompt_of(20, 200 + i), 450),
                      events[static_cast<std::size_t>(i)].sink());
    events[static_cast<std::size_t>(i)].wait_for_tokens(1);
  }
  engine().set_budget(budget_at(4, ErrorCode::thermal_throttled));
  for (std::size_t i = 4; i-- > 0;) {
    events[i].wait();
    EXPECT_EQ(events[i].error_code(), ErrorCode::thermal_throttled);
  }
  EXPECT_THAT(events[0].error()->message(), HasSubstr("too hot"));
  // One each step: the older ones went on meanwhile.
  EXPECT_EQ(wait_for([](const EngineStatus& s) { return s.running == 0; }).guard_cancelled, 4u);
  set_level(0);
  CollectedEvents after;
  engine().generate(ask(9, {1, 2}, 3), after.sink());
  after.wait();
  EXPECT_EQ(after.tokens(), fake_reply({1, 2}, 3));
}

TEST_F(LocalEngineLevelsTest, StepsPauseAndNothingElseDoes) {
  StepBudget slow = budget_at(1, ErrorCode::memory_pressure);
  slow.pause = 10min;
  engine().set_budget(slow);
  wait_for([](const EngineStatus& s) { return s.level == 1; });
  CollectedEvents paused, other;
  engine().generate(ask(1, {1, 2}, 50), paused.sink());
  paused.wait_for_tokens(1);
  engine().generate(ask(2, {3, 4}, 50), other.sink());  // wakes it, and starts no step
  std::this_thread::sleep_for(30ms);
  EXPECT_EQ(paused.tokens().size(), 1u);
  engine().cancel(1);
  paused.wait(5s);
  EXPECT_EQ(paused.error_code(), ErrorCode::cancelled);
  engine_.reset();  // waits for nothing
  EXPECT_EQ(other.error_code(), ErrorCode::engine_unavailable);
}

TEST_F(LocalEngineLevelsTest, ColdBlocksLeaveMemoryAndAreFoundOnDisk) {
  options_.kv_dir = folder_.path() / "kv";
  options_.kv_disk_free_bytes = 0;
  options_.kv_bytes = 200 * kFakeBlockBytes;
  switches_.step_ms = 20;  // reading is faster
  engine();
  wait_for([](const EngineStatus& s) { return !s.kv_disk.scanning; });
  engine().set_budget(budget_at(1, ErrorCode::memory_pressure));  // no writes in the background
  wait_for([](const EngineStatus& s) { return s.level == 1; });
  CollectedEvents first, again;
  engine().generate(ask(1, prompt_of(320), 20), first.sink());
  first.wait();
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(engine().status().kv_disk.files, 0u);
  set_level(2);
  const auto status = wait_for([](const EngineStatus& s) {
    return s.models[0].kv.blocks_cached == 0 && s.kv_blocks_used == 0 && s.kv_disk.files == 2;
  });
  EXPECT_EQ(status.models[0].state, ModelState::ready);
  set_level(0);
  engine().generate(ask(2, prompt_of(320), 20), again.sink());
  again.wait();
  EXPECT_EQ(again.tokens(), fake_reply(prompt_of(320), 20));
  EXPECT_EQ(again.events().back().timings->cached_disk_tokens, 304);
}

TEST_F(LocalEngineLevelsTest, WhatIsStoppedIsKeptOnDisk) {
  switches_.step_ms = 1;
  options_.kv_dir = folder_.path() / "kv";
  options_.kv_disk_free_bytes = 0;
  options_.max_sequences = 4;
  engine();
  CollectedEvents elder, younger;
  engine().generate(ask(1, prompt_of(100), 300), elder.sink());
  elder.wait_for_tokens(1);
  engine().generate(ask(2, prompt_of(100, 230), 100), younger.sink());
  younger.wait_for_tokens(1);
  set_level(3);
  wait_for([](const EngineStatus& s) { return s.running == 1 && s.kv_disk.files >= 2; });
  set_level(0);
  elder.wait();
  younger.wait();
  EXPECT_EQ(elder.tokens(), fake_reply(prompt_of(100), 300));
  EXPECT_EQ(younger.tokens(), fake_reply(prompt_of(100, 230), 100));
}

TEST_F(LocalEngineLevelsTest, DevicesKeepNothingForLaterOnceAMonitorIsUp) {
  options_.clock = &clock_;
  options_.idle_turn_ms = 5;
  set_level(0);
  switches_.device_bytes = 7;
  clock_.advance(1s);
  wait_for([](const EngineStatus& s) { return s.device_bytes == 7; });
  EXPECT_EQ(switches_.trims, 0);
  set_level(1);
  EXPECT_EQ(switches_.trims, 1);
  clock_.advance(1s);
  const auto tick = engine().status().last_tick;
  wait_for([&](const EngineStatus& s) { return s.last_tick > tick; });
  wait_for([&](const EngineStatus&) { return switches_.trims == 2; });
}

TEST_F(LocalEngineLevelsTest, IdleModelsGoTheLongestIdleFirst) {
  options_.clock = &clock_;
  options_.idle_turn_ms = 5;
  options_.models = {{"m", "decoder"}, {"e", "encoder"}, {"kept", "encoder"}};
  options_.models[2].pinned = true;
  engine();
  wait_for([](const EngineStatus& s) { return s.models[2].state == ModelState::ready; });
  const auto use = [&](RequestId id, const std::string& model) {
    EncodeRequest request;
    request.id = id;
    request.model = model;
    request.texts = {{1, 2}};
    CollectedReply reply;
    engine().encode(request, reply.sink());
    EXPECT_FALSE(reply.wait().error);
    wait_for([](const EngineStatus& s) { return s.state == EngineState::idle; });
  };
  const auto states = [&] {
    const auto tick = engine().status().steps;
    static_cast<void>(tick);
    std::this_thread::sleep_for(50ms);
    std::string text;
    for (const auto& model : engine().status().models) text += std::string(name_of(model.state)) + " ";
    return text;
  };
  clock_.advance(1s);
  use(1, "e");
  set_level(2);
  EXPECT_EQ(states(), "ready ready ready ");
  clock_.advance(9s);  // of the decoder ten seconds
  EXPECT_EQ(states(), "unloaded ready ready ");
  clock_.advance(1s);
  EXPECT_EQ(states(), "unloaded unloaded ready ");
  clock_.advance(1h);
  EXPECT_EQ(states(), "unloaded unloaded ready ");  // it is pinned
  EXPECT_EQ(switches_.loaded, 1);
  set_level(0);
  use(2, "e");  // brings it back
  EXPECT_EQ(states(), "unloaded ready ready ");
  set_level(3);
  EXPECT_EQ(states(), "unloaded unloaded ready ");  // at once
}

}  // namespace
}  // namespace cortex
