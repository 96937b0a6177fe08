// What the guards do to the routes, from a reading in a file to the reply.
#include <gmock/gmock.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "fakes/temporary_folder.h"
#include "http/front_fixture.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr const char* kHi = R"({"messages":[{"role":"user","content":"hi"}]})";

class GuardsTest : public FrontFixture {
 protected:
  GuardsTest() {
    engine_.set_status(ready_status());
    inject("memory", "0.1");
    inject("thermal", "0.1");
    FrontOptions options = quiet_options();
    options.most_under_way = 8;
    options.guard.injected = {{"memory", folder_.path() / "memory"}, {"thermal", folder_.path() / "thermal"}};
    options.guard.memory_every = options.guard.thermal_every = 5ms;
    options.guard.memory_dwell = options.guard.thermal_dwell = 300ms;
    front_ = std::make_unique<Front>(std::move(options), models(), engine_, system_clock());
    await([&] { return front_->self_test() == SelfTestState::passed; });
  }

  void inject(const std::string& name, const std::string& value) {
    folder_.write("new", value);
    std::filesystem::rename(folder_.path() / "new", folder_.path() / name);
  }
  template <typename Condition>
  static void await(const Condition& condition) {
    for (int i = 0; i < 5000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
    ASSERT_TRUE(condition());
  }
  void inject_level(const std::string& name, const std::string& value, int level) {
    inject(name, value);
    await([&] { return engine_.status().level == level; });
  }

  TemporaryFolder folder_;
};

TEST_F(GuardsTest, WithoutPressureAllIsWell) {
  const RawReply health = get("/healthz");
  EXPECT_EQ(health.status, 200);
  EXPECT_THAT(health.body, HasSubstr(R"("status":"ok","reasons":[],"warnings":[{"code":"monitor_injected")"));
  EXPECT_THAT(health.body, HasSubstr(R"("guards":{"level":0,"memory":{"level":0,"pressure":0.1,"used_bytes":)"));
  EXPECT_THAT(health.body, HasSubstr(R"("thermal":{"level":0,"pressure":0.1,"state":"nominal","source":"injected",)"));
  EXPECT_THAT(health.body, HasSubstr(R"("step_drift":{"level":0,"ratio":null,)"));
  EXPECT_EQ(post("/chat", kHi).status, 200);
}

TEST_F(GuardsTest, TheEngineIsToldWhatALevelMeans) {
  inject_level("thermal", "0.91", 2);
  const StepBudget budget = engine_.budgets().back();
  EXPECT_EQ(budget.level, 2);
  EXPECT_EQ(budget.cause, ErrorCode::thermal_throttled);
  EXPECT_TRUE(budget.evicts);
  EXPECT_FALSE(budget.drafts);
}

TEST_F(GuardsTest, ALowLevelDegradesAndServes) {
  inject_level("memory", "0.85", 1);
  EXPECT_EQ(get("/readyz").status, 200);
  EXPECT_THAT(get("/healthz").body, HasSubstr(R"("status":"degraded","reasons":[{"code":"memory_elevated")"));
  EXPECT_EQ(post("/chat", kHi).status, 200);
  EXPECT_EQ(post("/embed", R"({"inputs":"a"})").status, 200);
}

TEST_F(GuardsTest, AHighLevelRefusesAndIsLeftAgain) {
  struct Row {
    const char* monitor;
    const char* code;
  };
  for (const Row& row : {Row{"memory", "memory_pressure"}, Row{"thermal", "thermal_throttled"}}) {
    inject_level(row.monitor, "0.96", 3);
    for (const char* path : {"/healthz", "/readyz", "/health"}) {
      const RawReply probe = get(path);
      EXPECT_EQ(probe.status, 503) << path;
      EXPECT_EQ(probe.headers.at("retry-after"), "1") << path;
    }
    EXPECT_THAT(get("/healthz").body, HasSubstr(std::string(R"("reasons":[{"code":")") + row.code + '"'));
    EXPECT_EQ(get("/livez").status, 200);
    for (const RawReply& reply :
         {post("/chat", kHi), post("/embed", R"({"inputs":"a"})"), post("/rerank", R"({"query":"a","texts":["b"]})"),
          post("/v1/chat/completions", kHi)}) {
      EXPECT_EQ(reply.status, 503);
      EXPECT_THAT(reply.body, HasSubstr(std::string(R"("code":")") + row.code + '"'));
      EXPECT_EQ(reply.headers.at("retry-after"), "1");
    }
    inject_level(row.monitor, "0.1", 0);
    EXPECT_EQ(get("/readyz").status, 200);
    EXPECT_EQ(post("/chat", kHi).status, 200);
  }
}

TEST_F(GuardsTest, TheMetrics) {
  inject_level("memory", "0.99", 4);
  inject_level("memory", "0.1", 0);
  const std::string page = get("/metrics").body;
  EXPECT_THAT(page, HasSubstr("cortex_guard_level{guard=\"memory\"} 0\n"));
  EXPECT_THAT(page, HasSubstr("cortex_guard_pressure_ratio{guard=\"thermal\"} 0.1\n"));
  EXPECT_THAT(page, HasSubstr("cortex_guard_age_seconds{guard=\"memory\"} "));
  const auto transitions = [](const char* guard, int from, int to, int count) {
    return HasSubstr(fmt::format("cortex_guard_transitions_total{{from=\"{}\",guard=\"{}\",to=\"{}\"}} {}\n", from,
                                 guard, to, count));
  };
  EXPECT_THAT(page, transitions("memory", 0, 4, 1));
  for (int level = 4; level > 0; --level) EXPECT_THAT(page, transitions("memory", level, level - 1, 1));
  EXPECT_THAT(page, transitions("memory", 0, 1, 0));
  EXPECT_THAT(page, transitions("thermal", 0, 4, 0));
}

// Hears its budgets, and does not care.
class DeafEngine : public EchoEngine {
 public:
  void set_budget(const StepBudget& /*budget*/) override {}
};

using DeafEngineTest = FrontFixture;

TEST_F(DeafEngineTest, GuardsThatDoNotMoveTheEngineAreFoundOut) {
  DeafEngine deaf;
  deaf.set_status(ready_status());
  FrontOptions options = quiet_options();
  options.guard.memory_every = std::chrono::milliseconds(5);
  options.guard.self_test_patience = std::chrono::milliseconds(50);
  Front front(std::move(options), models(), deaf, system_clock());
  for (int i = 0; i < 5000 && front.self_test() != SelfTestState::failed; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(front.self_test(), SelfTestState::failed);
  const RawReply health = RawClient(front.port()).exchange("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(health.status, 503);
  EXPECT_THAT(health.body, HasSubstr(R"("reasons":[{"code":"self_test_failed")"));
  front.stop();
}

}  // namespace
}  // namespace cortex
