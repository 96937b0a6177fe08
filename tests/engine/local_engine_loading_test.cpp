// What LocalEngine does while a model loads, and when it can't be had.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/local_engine_fixture.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/requests.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class LocalEngineLoadingTest : public LocalEngineFixture {};

TEST_F(LocalEngineLoadingTest, RequestsWaitWhileTheModelLoads) {
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

TEST_F(LocalEngineLoadingTest, AModelThatFailsToLoadFailsItsRequests) {
  switches_.load_ms = 20;
  switches_.fail_load = true;
  EXPECT_EQ(refusal(ask(1, {1}, 1))->code(), ErrorCode::model_failed);  // came while it loaded
  const auto status = wait_for([](const EngineStatus& s) { return s.models[0].state == ModelState::failed; });
  EXPECT_EQ(status.models[0].failure, "fake.safetensors ends early");
  const auto error = refusal(ask(2, {1}, 1));
  EXPECT_EQ(error->code(), ErrorCode::model_failed);
  EXPECT_THAT(error->message(), HasSubstr("fake.safetensors ends early"));
}

TEST_F(LocalEngineLoadingTest, AModelThatCanNotBeInstalledKeepsNoWeights) {
  options_.kv_bytes = kFakeBlockBytes - 1;
  const auto status = wait_for([](const EngineStatus& s) {
    return s.models[0].state == ModelState::failed && s.models[1].state == ModelState::ready;
  });
  EXPECT_THAT(status.models[0].failure, HasSubstr("kv_bytes"));
  EXPECT_EQ(status.models[0].bytes, 0u);
  EXPECT_EQ(switches_.loaded, 1);
  EXPECT_EQ(refusal(ask(1, {1}, 1))->code(), ErrorCode::model_failed);
}

TEST_F(LocalEngineLoadingTest, AutoTakesTheBackendThatLacksNothing) {
  options_.backend = "auto";
  options_.open_backend = [this](std::string_view name, const BackendOptions&) -> std::unique_ptr<Backend> {
    if (name == "auto") return std::make_unique<FakeBackend>("cpu", &switches_, "soft caps");
    return std::make_unique<FakeBackend>(std::string(name), &switches_);
  };
  const auto status = wait_for([](const EngineStatus& s) { return s.models[0].state == ModelState::ready; });
  EXPECT_EQ(status.models[0].backend, "mlx");
}

TEST_F(LocalEngineLoadingTest, ANamedBackendThatLacksSomethingFailsTheModel) {
  options_.open_backend = [this](std::string_view, const BackendOptions&) {
    return std::make_unique<FakeBackend>("fake", &switches_, "soft caps");
  };
  const auto status = wait_for([](const EngineStatus& s) { return s.models[0].state == ModelState::failed; });
  EXPECT_EQ(status.models[0].failure, "backend fake lacks soft caps");
}

}  // namespace
}  // namespace cortex
