// A LocalEngine with a fake decoder "m" and a fake encoder "e", whose options and device a test may change before it
// first asks for the engine.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/local_engine.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/fake_clock.h"

namespace cortex {

inline EncodeRequest texts(RequestId id, std::vector<std::vector<TokenId>> all) {
  EncodeRequest request;
  request.id = id;
  request.model = "e";
  request.texts = std::move(all);
  return request;
}

inline std::vector<TokenId> long_prompt(int tokens) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < tokens; ++i) prompt.push_back(200 + i * 7 % 300);
  return prompt;
}

class LocalEngineFixture : public testing::Test {
 protected:
  LocalEngineFixture() {
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
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
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
  FakeClock clock_;  // the engine's, where the options say so
  LocalEngineOptions options_;
  std::unique_ptr<LocalEngine> engine_;
};

}  // namespace cortex
