// LocalEngine when memory runs out at any point, and when something throws outside a step: its threads go on, and every
// request ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/failing_allocation.h"
#include "engine/local_engine.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/requests.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;

// Throws at every other reading of the threads that are not the test's, while it is armed.
class ThrowingClock : public Clock {
 public:
  std::chrono::steady_clock::time_point steady_now() const override {
    if (armed && std::this_thread::get_id() != mine_ && reading_++ % 2 == 0) throw std::runtime_error("no time");
    return std::chrono::steady_clock::now();
  }
  std::chrono::system_clock::time_point wall_now() const override { return std::chrono::system_clock::now(); }

  std::atomic<bool> armed = false;

 private:
  const std::thread::id mine_ = std::this_thread::get_id();
  mutable std::atomic<int> reading_ = 0;
};

// How a request ended, kept without an allocation.
struct Ending {
  std::atomic<bool> over = false;
  std::atomic<bool> failed = false;

  void set(bool with_error) {
    failed = with_error;
    over = true;
  }
  bool wait() const {
    for (int i = 0; i < 10000 && !over; ++i) std::this_thread::sleep_for(1ms);
    return over;
  }
};

EncodeRequest texts(RequestId id, std::vector<std::vector<TokenId>> all) {
  EncodeRequest request;
  request.id = id;
  request.model = "e";
  request.texts = std::move(all);
  return request;
}

class LocalEngineSurvivalTest : public testing::Test {
 protected:
  LocalEngineSurvivalTest() {
    options_.models = {{"m", "decoder"}, {"e", "encoder"}};
    options_.backend = "fake";
    options_.clock = &clock_;
    options_.open_model = open_fake_model;
    options_.open_backend = [this](std::string_view name, const BackendOptions&) {
      return std::make_unique<FakeBackend>(std::string(name), &switches_);
    };
  }

  static EngineStatus wait_for(const Engine& engine, const std::function<bool(const EngineStatus&)>& condition) {
    for (int i = 0; i < 5000; ++i) {
      const EngineStatus status = engine.status();
      if (condition(status)) return status;
      std::this_thread::sleep_for(2ms);
    }
    throw std::runtime_error("the status never came");
  }

  ThrowingClock clock_;
  FakeSwitches switches_;
  LocalEngineOptions options_;
};

TEST_F(LocalEngineSurvivalTest, OneFailedAllocationOfTheLoopLosesNoRequest) {
  LocalEngine engine(options_);
  RequestId id = 1;
  int errors = 0;
  bool failed = true;
  for (int after = 0; failed; ++after) {
    Ending watched, other, encoded;
    bool armed = false;
    engine.generate(ask(id++, {1, 2, 3}, 6), [&](const GenerateEvent& event) {
      if (!std::exchange(armed, true)) fail_allocation_after(after);
      if (!event.last()) return;
      failed = allow_allocations();
      watched.set(event.error.has_value());
    });
    engine.generate(ask(id++, {4, 5}, 3), [&](const GenerateEvent& event) {
      if (event.last()) other.set(event.error.has_value());
    });
    engine.encode(texts(id++, {{1, 2}, {3}}), [&](const EncodeReply& reply) { encoded.set(reply.error.has_value()); });
    ASSERT_TRUE(watched.wait() && other.wait() && encoded.wait()) << "allocation " << after;
    if (watched.failed) {
      ASSERT_TRUE(failed);
      ++errors;
    }
  }
  EXPECT_GT(errors, 10);
  wait_for(engine, [](const EngineStatus& s) { return s.state == EngineState::idle && s.kv_blocks_used == 0; });
  CollectedEvents sound;
  engine.generate(ask(id, {1, 2, 3}, 6), sound.sink());
  sound.wait();
  EXPECT_EQ(sound.tokens(), fake_reply({1, 2, 3}, 6));
}

TEST_F(LocalEngineSurvivalTest, ALoopThatThrowsIsFailingAndGoesOn) {
  LocalEngine engine(options_);
  wait_for(engine, [](const EngineStatus& s) { return s.models[1].state == ModelState::ready; });
  clock_.armed = true;
  engine.cancel(7);  // wakes it
  const auto status = wait_for(engine, [](const EngineStatus& s) { return s.state == EngineState::failing; });
  EXPECT_GE(status.consecutive_failures, 3);
  clock_.armed = false;
  wait_for(engine, [](const EngineStatus& s) { return s.state == EngineState::idle && s.consecutive_failures == 0; });
  CollectedEvents sound;
  engine.generate(ask(1, {1, 2}, 3), sound.sink());
  sound.wait();
  EXPECT_EQ(sound.tokens(), fake_reply({1, 2}, 3));
}

TEST_F(LocalEngineSurvivalTest, ALoaderWithoutMemoryFailsItsModels) {
  options_.open_model = [](const ModelConfig& config) {
    fail_every_allocation();  // of the loader thread
    return open_fake_model(config);
  };
  LocalEngine engine(options_);
  CollectedEvents events;
  engine.generate(ask(1, {1, 2}, 3), events.sink());
  events.wait();
  EXPECT_EQ(events.error_code(), ErrorCode::model_failed);
  const auto status = wait_for(engine, [](const EngineStatus& s) { return s.models[1].state == ModelState::failed; });
  EXPECT_EQ(status.models[0].state, ModelState::failed);
  EXPECT_FALSE(status.models[0].failure.empty());
}

// A step is computed for all of its requests at once, so they share its fault; what waits, and other models, do not.
TEST_F(LocalEngineSurvivalTest, AStepThatThrowsEndsWhatWasInIt) {
  for (const std::string_view stage : {"prompt", "decode"}) {
    std::atomic<bool> armed = true;
    LocalEngineOptions options = options_;
    options.max_sequences = 1;
    options.failpoint = [&](std::string_view phase, std::span<const TokenId>) {
      if (phase == stage && armed.exchange(false)) throw std::runtime_error("a step");
    };
    LocalEngine engine(std::move(options));
    CollectedEvents failed, waiting;
    CollectedReply beside;
    engine.generate(ask(1, {1, 2, 3}, 20), failed.sink());
    engine.generate(ask(2, {4, 5, 6}, 20), waiting.sink());
    engine.encode(texts(3, {{1, 2}, {3}}), beside.sink());
    failed.wait();
    waiting.wait();
    EXPECT_EQ(failed.error_code(), ErrorCode::internal_error) << stage;
    EXPECT_EQ(waiting.tokens(), fake_reply({4, 5, 6}, 20)) << stage;
    EXPECT_FALSE(beside.wait().error) << stage;
    wait_for(engine, [](const EngineStatus& s) { return s.state == EngineState::idle && s.kv_blocks_used == 0; });
  }
}

TEST_F(LocalEngineSurvivalTest, ARowWithoutATokenEndsItsRequestAndNoOtherOfTheStep) {
  LocalEngine engine(options_);
  CollectedEvents failed, beside;
  engine.generate(ask(1, {4, 5, 6}, 60), beside.sink());
  beside.wait_for_tokens(1);
  engine.generate(ask(2, {1, 2, kFakeNan}, 60), failed.sink());
  failed.wait();
  beside.wait();
  EXPECT_EQ(failed.error_code(), ErrorCode::numerical_error);
  EXPECT_EQ(beside.tokens(), fake_reply({4, 5, 6}, 60));
}

TEST_F(LocalEngineSurvivalTest, AConstructorThatRunsOutOfMemoryThrows) {
  int unavailable = 0;
  bool failed = true;
  for (int after = 0; failed; ++after) {
    LocalEngineOptions options = options_;
    fail_allocation_after(after);
    try {
      LocalEngine engine(std::move(options));
      failed = allow_allocations();
    } catch (const Error& error) {
      allow_allocations();
      EXPECT_EQ(error.code(), ErrorCode::engine_unavailable);
      ++unavailable;
    } catch (const std::bad_alloc&) {
      allow_allocations();
    }
  }
  EXPECT_EQ(unavailable, 4);  // either thread, and the two that the queue of loads needs
}

}  // namespace
}  // namespace cortex
