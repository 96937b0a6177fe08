#include "service/health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

const std::chrono::steady_clock::time_point kNow{1h};

EngineStatus healthy() {
  EngineStatus engine;
  engine.state = EngineState::running;
  engine.last_tick = kNow - 10ms;
  ModelStatus model;
  model.name = "m";
  model.state = ModelState::ready;
  engine.models = {model};
  return engine;
}

std::vector<std::string> codes(const Health& health) {
  std::vector<std::string> codes;
  for (const auto& reason : health.reasons) codes.push_back(reason.code);
  return codes;
}

TEST(Health, IsOkWhileTheEngineTicksAndItsModelsAreReady) {
  const Health health = assess(healthy(), false, kNow, {});
  EXPECT_EQ(health.status, HealthStatus::ok);
  EXPECT_TRUE(health.ready());
  EXPECT_TRUE(health.reasons.empty());
}

TEST(Health, AnUnloadedModelIsNoReason) {
  EngineStatus engine = healthy();
  engine.models[0].state = ModelState::unloaded;
  EXPECT_EQ(assess(engine, false, kNow, {}).status, HealthStatus::ok);
}

TEST(Health, ALoadingModelMakesItLoading) {
  EngineStatus engine = healthy();
  engine.models[0].state = ModelState::loading;
  engine.models[0].progress = 0.5;
  const Health health = assess(engine, false, kNow, {});
  EXPECT_EQ(health.status, HealthStatus::loading);
  EXPECT_FALSE(health.ready());
  EXPECT_THAT(codes(health), ElementsAre("model_loading"));
  EXPECT_NE(health.reasons[0].message.find("50 %"), std::string::npos) << health.reasons[0].message;
}

TEST(Health, WithoutAModelItIsNotReady) {
  EngineStatus engine = healthy();
  engine.models.clear();
  EXPECT_THAT(codes(assess(engine, false, kNow, {})), ElementsAre("no_model"));
}

TEST(Health, AFailedModelDegrades) {
  EngineStatus engine = healthy();
  engine.models[0].state = ModelState::failed;
  engine.models[0].failure = "the disk is gone";
  const Health health = assess(engine, false, kNow, {});
  EXPECT_EQ(health.status, HealthStatus::degraded);
  EXPECT_TRUE(health.ready());
}

TEST(Health, AnEngineThatDoesNotTickIsStalled) {
  EngineStatus engine = healthy();
  engine.last_tick = kNow - 31s;
  const Health health = assess(engine, false, kNow, {.stall_after = 30s});
  EXPECT_EQ(health.status, HealthStatus::unavailable);
  EXPECT_THAT(codes(health), ElementsAre("engine_stalled"));
  EXPECT_EQ(health.reasons[0].message, "no tick for 31 s");
}

TEST(Health, ToldStatesOfTheEngineMakeItUnavailable) {
  const std::pair<EngineState, const char*> cases[] = {{EngineState::dead, "engine_dead"},
                                                       {EngineState::restarting, "engine_restarting"},
                                                       {EngineState::stalled, "engine_stalled"},
                                                       {EngineState::failing, "engine_failing"}};
  for (const auto& [state, code] : cases) {
    EngineStatus engine = healthy();
    engine.state = state;
    const Health health = assess(engine, false, kNow, {});
    EXPECT_EQ(health.status, HealthStatus::unavailable) << code;
    EXPECT_THAT(codes(health), ElementsAre(code));
  }
}

TEST(Health, ThreeFailedStepsInARowAreFailing) {
  EngineStatus engine = healthy();
  engine.consecutive_failures = 2;
  EXPECT_EQ(assess(engine, false, kNow, {}).status, HealthStatus::ok);
  engine.consecutive_failures = 3;
  EXPECT_THAT(codes(assess(engine, false, kNow, {})), ElementsAre("engine_failing"));
}

TEST(Health, DrainingWinsOverLoading) {
  EngineStatus engine = healthy();
  engine.models[0].state = ModelState::loading;
  const Health health = assess(engine, true, kNow, {});
  EXPECT_EQ(health.status, HealthStatus::draining);
  EXPECT_THAT(codes(health), ElementsAre("model_loading", "draining"));
}

TEST(Health, ADiskThatTakesNoMoreDegrades) {
  EngineStatus engine = healthy();
  engine.kv_disk.state = "ok";
  EXPECT_EQ(assess(engine, false, kNow, {}).status, HealthStatus::ok);
  for (const auto& [state, code] : {std::pair("full", "disk_full"), std::pair("error", "disk_error")}) {
    engine.kv_disk.state = state;
    engine.kv_disk.message = "why";
    const Health health = assess(engine, false, kNow, {});
    EXPECT_EQ(health.status, HealthStatus::degraded);
    EXPECT_TRUE(health.ready());
    EXPECT_THAT(codes(health), ElementsAre(code));
    EXPECT_EQ(health.reasons[0].message, "why");
    EXPECT_TRUE(health.warnings.empty());
  }
}

TEST(Health, ADiskThatIsOffThoughAskedForIsAWarning) {
  EngineStatus engine = healthy();
  engine.kv_disk.message = "another server has the directory";
  const Health health = assess(engine, false, kNow, {});
  EXPECT_EQ(health.status, HealthStatus::ok);
  EXPECT_TRUE(health.reasons.empty());
  ASSERT_EQ(health.warnings.size(), 1u);
  EXPECT_EQ(health.warnings[0].code, "disk_off");
  EXPECT_EQ(health.warnings[0].message, "another server has the directory");
  engine.kv_disk.message.clear();  // nobody asked
  EXPECT_TRUE(assess(engine, false, kNow, {}).warnings.empty());
}

TEST(Health, TheEnginesMemoryCountsOnceWhereverItRuns) {
  EngineStatus engine = healthy();
  engine.memory_bytes = std::uint64_t{1} << 40;
  EXPECT_LT(memory_used_bytes(engine), engine.memory_bytes);
  engine.own_process = true;
  EXPECT_GT(memory_used_bytes(engine), engine.memory_bytes);
}

GuardStatus guard_at(const std::string& name, int level) {
  GuardStatus guard;
  guard.self_test = SelfTestState::passed;
  guard.level = level;
  for (const char* monitor : {"memory", "thermal", "step_drift"}) {
    MonitorStatus status;
    status.name = monitor;
    status.pressure = 0.5;
    status.age_s = 0.1;
    status.level = monitor == name ? level : 0;
    guard.monitors.push_back(status);
  }
  if (level >= 3) guard.below_s[3] = 7.5;
  return guard;
}

Health assess_with(const GuardStatus& guard) {
  Health health = assess(healthy(), false, kNow, {});
  assess_guard(guard, &health);
  return health;
}

TEST(Health, TheGuardsDegradeItAndFromLevel3OnItTakesNothing) {
  struct Row {
    const char* monitor;
    int level;
    HealthStatus status;
    std::vector<std::string> codes;
  };
  const std::vector<Row> rows = {{"memory", 0, HealthStatus::ok, {}},
                                 {"memory", 1, HealthStatus::degraded, {"memory_elevated"}},
                                 {"memory", 2, HealthStatus::degraded, {"memory_elevated"}},
                                 {"memory", 3, HealthStatus::unavailable, {"memory_pressure"}},
                                 {"memory", 4, HealthStatus::unavailable, {"memory_pressure"}},
                                 {"thermal", 2, HealthStatus::degraded, {"thermal_elevated"}},
                                 {"thermal", 3, HealthStatus::unavailable, {"thermal_throttled"}},
                                 {"step_drift", 1, HealthStatus::degraded, {"thermal_elevated"}}};
  for (const Row& row : rows) {
    const Health health = assess_with(guard_at(row.monitor, row.level));
    EXPECT_EQ(health.status, row.status) << row.monitor << row.level;
    EXPECT_EQ(codes(health), row.codes) << row.monitor << row.level;
    EXPECT_DOUBLE_EQ(retry_after_s(health), row.level >= 3 ? 7.5 : 1.0);
  }
}

TEST(Health, AMonitorThatReadsNothingAnyMoreDegradesIt) {
  GuardStatus guard = guard_at("memory", 1);
  guard.monitors[0].stale = true;
  EXPECT_THAT(codes(assess_with(guard)), ElementsAre("monitor_stale"));
  guard.monitors[0].level = 3;
  EXPECT_THAT(codes(assess_with(guard)), ElementsAre("monitor_stale", "memory_pressure"));
}

TEST(Health, AnInjectedMonitorIsAWarning) {
  GuardStatus guard = guard_at("memory", 0);
  guard.injected = {"thermal"};
  const Health health = assess_with(guard);
  EXPECT_EQ(health.status, HealthStatus::ok);
  ASSERT_EQ(health.warnings.size(), 1u);
  EXPECT_EQ(health.warnings[0].code, "monitor_injected");
}

TEST(Health, GuardsThatDoNotMoveTheEngineMakeItUnavailable) {
  GuardStatus guard = guard_at("memory", 0);
  guard.self_test = SelfTestState::failed;
  EXPECT_EQ(assess_with(guard).status, HealthStatus::unavailable);
  EXPECT_THAT(codes(assess_with(guard)), ElementsAre("self_test_failed"));
}

}  // namespace
}  // namespace cortex
