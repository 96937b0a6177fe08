#include "worker/worker_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <deque>
#include <filesystem>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/requests.h"
#include "fakes/token_texts.h"
#include "worker/test_tokens.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class WorkerClientTest : public testing::Test {
 protected:
  WorkerClientTest() {
    options_.engine.models = {{"m", "decoder"}, {"e", "encoder"}};
    options_.engine.backend = "fake";
    options_.engine.rows_per_step = 20;  // ms between the echo's tokens
    options_.supervisor.executable = TEST_WORKER;
    options_.supervisor.arguments = {"echo"};
    options_.supervisor.restart_delay = 20ms;
  }

  WorkerClient& client() {
    if (!client_) client_ = std::make_unique<WorkerClient>(options_);
    return *client_;
  }

  template <typename Condition>
  EngineStatus wait_for(Condition condition) {
    for (int i = 0; i < 2000; ++i) {
      const EngineStatus status = client().status();
      if (condition(status)) return status;
      std::this_thread::sleep_for(5ms);
    }
    throw std::runtime_error("the status never came");
  }

  void kill_worker() {
    const pid_t pid = client().worker_pid();
    ASSERT_GT(pid, 0);
    ::kill(pid, SIGKILL);
  }

  WorkerClientOptions options_;
  std::unique_ptr<WorkerClient> client_;
};

TEST_F(WorkerClientTest, GeneratesAndEncodesInAnotherProcess) {
  options_.engine.rows_per_step = 0;
  CollectedEvents events;
  client().generate(ask(1, {5, 6, 7}, 4), events.sink());
  EncodeRequest encode;
  encode.id = 2;
  encode.model = "e";
  encode.texts = {{0, 1, 9}};
  CollectedReply reply;
  client().encode(encode, reply.sink());
  events.wait();
  EXPECT_THAT(events.tokens(), ElementsAre(5, 6, 7, 5));
  EXPECT_EQ(events.finish(), FinishReason::length);
  EXPECT_THAT(reply.wait().vectors, ElementsAre(1, 2, 0, 0, 0, 0, 0, 0));
  const auto status = wait_for([](const EngineStatus& s) { return s.backend == "echo" && s.running == 0; });
  EXPECT_EQ(status.state, EngineState::idle);
  EXPECT_EQ(status.restarts, 0);
  EXPECT_TRUE(status.own_process);
}

TEST_F(WorkerClientTest, ErrorsKeepTheirCode) {
  auto request = ask(1, {5}, 4);
  request.model = "nobody";
  CollectedEvents events;
  client().generate(request, events.sink());
  events.wait();
  EXPECT_EQ(events.error_code(), ErrorCode::model_not_found);
  EXPECT_EQ(events.error()->param(), "model");
}

TEST_F(WorkerClientTest, AVocabularyGoesAheadOfTheFirstGrammarOfAProcess) {
  RequestId id = 0;
  const auto told = [&](const std::string& model, const std::shared_ptr<const TokenTexts>& texts) {
    auto request = ask(++id, {5}, 4);
    request.model = model;
    request.grammar = Grammar{GrammarSyntax::regex, "a", texts};
    CollectedEvents events;
    client().generate(request, events.sink());
    events.wait();
    return events.error().value().message();
  };
  options_.engine.models.push_back({"second", "decoder"});
  const auto texts = byte_texts({"<end>"}, {256}), others = byte_texts({"<end>", "ab"}, {256});
  const std::string first = told("m", texts);
  EXPECT_THAT(first, testing::StartsWith("257 ids at "));
  EXPECT_EQ(told("m", texts), first);
  EXPECT_EQ(told("m", others), first);  // a model has one for all its life, and it is there
  EXPECT_THAT(told("second", others), testing::StartsWith("258 ids at "));
  CollectedEvents without;
  client().generate(ask(++id, {5}, 1), without.sink());
  without.wait();
  EXPECT_FALSE(without.error());
  kill_worker();
  wait_for([](const EngineStatus& status) { return status.restarts == 1 && status.state == EngineState::idle; });
  EXPECT_THAT(told("m", others), testing::StartsWith("258 ids at "));
}

TEST_F(WorkerClientTest, CancelsAndEndsInTime) {
  CollectedEvents cancelled, late;
  client().generate(ask(1, {5}, 1000), cancelled.sink());
  cancelled.wait_for_tokens(1);
  client().cancel(1);
  cancelled.wait();
  EXPECT_EQ(cancelled.error_code(), ErrorCode::cancelled);
  auto request = ask(2, {5}, 1000);
  request.timeout = 50ms;
  client().generate(request, late.sink());
  late.wait();
  EXPECT_EQ(late.error_code(), ErrorCode::deadline_exceeded);
}

// What reads the counts adds up those of all processes: the next one's begin at 0, and none shows in between with the
// old one's.
TEST_F(WorkerClientTest, CountsAreTheNewProcessesAsSoonAsItIsCounted) {
  options_.supervisor.arguments = {"fake"};
  options_.engine.rows_per_step = 512;
  options_.engine.speculation = false;
  const auto decoded = [](const EngineStatus& status) { return status.step_counts.of(StepKind::decode).tokens.sum; };
  CollectedEvents events;
  client().generate(ask(1, {5, 6}, 10), events.sink());
  events.wait();
  wait_for([&](const EngineStatus& status) { return decoded(status) == 9.0; });
  kill_worker();
  std::set<std::pair<int, double>> seen;
  wait_for([&](const EngineStatus& status) {
    seen.emplace(status.restarts, decoded(status));
    return status.restarts == 1 && status.state == EngineState::idle;
  });
  EXPECT_FALSE(seen.contains({1, 9.0}));
  CollectedEvents again;
  client().generate(ask(2, {5, 6}, 4), again.sink());
  again.wait();
  EXPECT_EQ(wait_for([&](const EngineStatus& status) { return decoded(status) > 0.0; }).restarts, 1);
  wait_for([&](const EngineStatus& status) { return decoded(status) == 3.0; });
}

TEST_F(WorkerClientTest, AKilledWorkerCostsWhatIsInFlightAndIsReplaced) {
  options_.supervisor.stall_after = 1h;  // its silence is not what tells
  CollectedEvents lost;
  client().generate(ask(1, {5, 6}, 1000), lost.sink());
  lost.wait_for_tokens(2);
  const pid_t first = client().worker_pid();
  kill_worker();
  lost.wait();
  EXPECT_EQ(lost.error_code(), ErrorCode::engine_unavailable);
  EXPECT_EQ(lost.after_the_last(), 0);
  CollectedEvents next;
  client().generate(ask(2, {7, 8}, 2), next.sink());
  next.wait();
  EXPECT_THAT(next.tokens(), ElementsAre(7, 8));
  EXPECT_NE(client().worker_pid(), first);
  EXPECT_EQ(wait_for([](const EngineStatus& s) { return s.state == EngineState::idle; }).restarts, 1);
}

TEST_F(WorkerClientTest, RequestsWaitForTheRestartUntilTheirDeadline) {
  options_.supervisor.restart_delay = 3s;
  wait_for([](const EngineStatus& s) { return s.backend == "echo"; });
  kill_worker();
  wait_for(
      [](const EngineStatus& s) { return s.restarts == 1 && s.backend == "echo" && s.state == EngineState::idle; });
  kill_worker();  // the second death: its successor waits
  const auto status = wait_for([](const EngineStatus& s) { return s.state == EngineState::restarting; });
  EXPECT_EQ(status.models[0].state, ModelState::loading);
  CollectedEvents patient, late, cancelled;
  auto hurried = ask(1, {5}, 1);
  hurried.timeout = 30ms;
  client().generate(hurried, late.sink());
  client().generate(ask(2, {5}, 1), patient.sink());
  client().generate(ask(3, {5}, 1), cancelled.sink());
  client().cancel(3);
  late.wait();
  cancelled.wait();
  EXPECT_FALSE(patient.over());
  EXPECT_EQ(late.error_code(), ErrorCode::deadline_exceeded);
  EXPECT_EQ(cancelled.error_code(), ErrorCode::cancelled);
  patient.wait();
  EXPECT_EQ(patient.finish(), FinishReason::length);
}

TEST_F(WorkerClientTest, NothingIsSentToAProcessThatIsGone) {
  // The first two die and leave their socket open for a while; the third works.
  const std::string deaths = testing::TempDir() + "cortex_deaths." + std::to_string(::getpid());
  options_.supervisor.executable = "/bin/sh";
  options_.supervisor.arguments = {
      "-c",
      "[ \"$(wc -l < " + deaths + ")\" -ge 2 ] && exec " TEST_WORKER " echo; echo >> " + deaths + "; sleep 2 & exit 1"};
  options_.supervisor.restart_delay = 300ms;
  const std::ofstream made_empty(deaths);
  wait_for([](const EngineStatus& s) { return s.restarts == 2; });
  CollectedEvents events;
  client().generate(ask(1, {5}, 1), events.sink());
  events.wait();
  EXPECT_EQ(events.finish(), FinishReason::length);
  std::filesystem::remove(deaths);
}

TEST_F(WorkerClientTest, FiveDeathsAreTheEnd) {
  options_.supervisor.arguments = {"die"};
  CollectedEvents waiting;
  client().generate(ask(1, {5}, 1), waiting.sink());
  const auto status = wait_for([](const EngineStatus& s) { return s.state == EngineState::dead; });
  EXPECT_EQ(status.restarts, 5);
  waiting.wait();
  EXPECT_EQ(waiting.error_code(), ErrorCode::engine_unavailable);
  CollectedEvents later;
  client().generate(ask(2, {5}, 1), later.sink());
  later.wait();
  EXPECT_EQ(later.error_code(), ErrorCode::engine_unavailable);
}

TEST_F(WorkerClientTest, AProgramThatDoesNotExistIsTheEndToo) {
  options_.supervisor.executable = "/nonexistent/cortex";
  wait_for([](const EngineStatus& s) { return s.state == EngineState::dead; });
}

TEST_F(WorkerClientTest, ASilentWorkerIsReplaced) {
  options_.supervisor.stall_after = 1500ms;
  options_.supervisor.kill_grace = 3s;
  CollectedEvents hung;
  client().generate(ask(1, {kHangToken}, 1), hung.sink());
  wait_for([](const EngineStatus& s) { return s.state == EngineState::stalled; });
  hung.wait();
  EXPECT_EQ(hung.error_code(), ErrorCode::engine_unavailable);
  CollectedEvents next;
  client().generate(ask(2, {5}, 1), next.sink());
  next.wait();
  EXPECT_EQ(next.finish(), FinishReason::length);
}

TEST_F(WorkerClientTest, AnIdleWorkerIsNotSilent) {
  options_.supervisor.stall_after = 1800ms;
  client();
  std::this_thread::sleep_for(2500ms);
  EXPECT_EQ(client().status().restarts, 0);
  EXPECT_EQ(client().status().state, EngineState::idle);
}

TEST_F(WorkerClientTest, AnIdleEngineIsNotSilentHoweverShortThePatience) {
  options_.supervisor.arguments = {"fake"};
  options_.engine.rows_per_step = 256;
  options_.supervisor.stall_after = 600ms;  // shorter than a usual turn; long enough for a machine that is busy
  wait_for([](const EngineStatus& s) { return s.models[1].state == ModelState::ready; });
  std::this_thread::sleep_for(2s);
  EXPECT_EQ(client().status().restarts, 0);
  EXPECT_EQ(client().status().state, EngineState::idle);
}

TEST_F(WorkerClientTest, ABadPatienceIsRefused) {
  options_.supervisor.stall_after = 0ms;
  EXPECT_THROW(client(), Error);
}

TEST_F(WorkerClientTest, ARequestThatKillsTwiceIsRefused) {
  CollectedEvents first, second, third, bystander;
  client().generate(ask(1, {5}, 1000), bystander.sink());
  bystander.wait_for_tokens(1);
  client().generate(ask(2, {kDieToken}, 1), first.sink());
  first.wait();
  bystander.wait();
  EXPECT_EQ(bystander.error_code(), ErrorCode::engine_unavailable);
  EXPECT_EQ(first.error_code(), ErrorCode::engine_unavailable);
  client().generate(ask(3, {kDieToken}, 1), second.sink());
  second.wait();
  EXPECT_EQ(second.error_code(), ErrorCode::engine_unavailable);
  client().generate(ask(4, {kDieToken}, 1), third.sink());
  third.wait();
  EXPECT_EQ(third.error_code(), ErrorCode::request_quarantined);
  CollectedEvents again;
  client().generate(ask(5, {5}, 3), again.sink());  // the bystander's prompt: runs alone, and is cleared
  again.wait();
  EXPECT_EQ(again.finish(), FinishReason::length);
}

TEST_F(WorkerClientTest, ASuspectRunsAlone) {
  CollectedEvents lost, suspect, other;
  client().generate(ask(1, {5}, 1000), lost.sink());
  lost.wait_for_tokens(1);
  kill_worker();
  lost.wait();
  client().generate(ask(2, {5}, 10), suspect.sink());
  client().generate(ask(3, {6}, 1), other.sink());
  suspect.wait_for_tokens(1);
  other.wait();
  EXPECT_TRUE(suspect.over());  // the other, far shorter, came after it
  EXPECT_EQ(other.finish(), FinishReason::length);
}

// As a reply does that a stop string ends.
TEST_F(WorkerClientTest, ASuspectThatIsCancelledAfterATokenIsCleared) {
  CollectedEvents lost, suspect, cleared, other;
  client().generate(ask(1, {5}, 1000), lost.sink());
  lost.wait_for_tokens(1);
  kill_worker();
  lost.wait();
  client().generate(ask(2, {5}, 1000), suspect.sink());
  suspect.wait_for_tokens(1);
  client().cancel(2);
  suspect.wait();
  EXPECT_EQ(suspect.error_code(), ErrorCode::cancelled);
  client().generate(ask(3, {5}, 1000), cleared.sink());
  client().generate(ask(4, {6}, 1), other.sink());
  cleared.wait_for_tokens(1);
  other.wait();
  EXPECT_FALSE(cleared.over());  // the other ran beside it
  client_.reset();
}

TEST_F(WorkerClientTest, ASuspectThatIsCancelledBeforeATokenStaysOne) {
  options_.engine.rows_per_step = 1000;
  CollectedEvents lost, early, suspect, other;
  client().generate(ask(1, {5}, 1000), lost.sink());
  lost.wait_for_tokens(1);
  kill_worker();
  lost.wait();
  client().generate(ask(2, {5}, 1000), early.sink());
  client().cancel(2);
  early.wait();
  ASSERT_TRUE(early.tokens().empty());
  client().generate(ask(3, {5}, 3), suspect.sink());
  client().generate(ask(4, {6}, 1), other.sink());
  other.wait();
  EXPECT_TRUE(suspect.over());
}

TEST_F(WorkerClientTest, OptionsThatDoNotFitAFrameAreTheEnd) {
  options_.engine.models[0].path.assign(kMaxFrameBytes, 'x');
  CollectedEvents waiting;
  client().generate(ask(1, {5}, 1), waiting.sink());
  waiting.wait();
  EXPECT_EQ(waiting.error_code(), ErrorCode::engine_unavailable);
  EXPECT_EQ(client().status().state, EngineState::dead);
}

TEST_F(WorkerClientTest, ARequestThatComesTooLateHearsOfIt) {
  CollectedEvents late;
  CollectedReply late_reply;
  std::atomic<bool> over = false;
  WorkerClient* const engine = &client();
  engine->generate(ask(1, {5}, 1000), [&](const GenerateEvent& event) {
    if (!event.last()) return;
    // While the client is going.
    std::thread([&] {
      engine->generate(ask(2, {5}, 1), late.sink());
      EncodeRequest encode;
      encode.id = 3;
      engine->encode(encode, late_reply.sink());
    }).join();
    over = true;
  });
  client_.reset();
  ASSERT_TRUE(over);
  late.wait(0ms);
  EXPECT_EQ(late.error_code(), ErrorCode::engine_unavailable);
  EXPECT_EQ(late_reply.wait(0ms).error->code(), ErrorCode::engine_unavailable);
}

TEST_F(WorkerClientTest, ShutdownEndsEverything) {
  options_.supervisor.kill_grace = 1h;
  CollectedEvents running;
  client().generate(ask(1, {5}, 1000), running.sink());
  running.wait_for_tokens(1);
  const pid_t pid = client().worker_pid();
  client_.reset();
  EXPECT_TRUE(running.over());
  EXPECT_EQ(running.error_code(), ErrorCode::engine_unavailable);
  EXPECT_NE(::kill(pid, 0), 0);  // reaped
}

TEST_F(WorkerClientTest, ShutdownDoesNotWaitForAHungWorker) {
  options_.supervisor.kill_grace = 1h;  // the worker ends itself
  CollectedEvents hung;
  client().generate(ask(1, {kHangToken}, 1), hung.sink());
  std::this_thread::sleep_for(300ms);
  client_.reset();
}

TEST_F(WorkerClientTest, TheWorkersEngineIsTheSameEngine) {
  options_.supervisor.arguments = {"fake"};
  options_.engine.rows_per_step = 256;
  std::deque<CollectedEvents> events(12);
  for (int i = 0; i < 12; ++i) {
    client().generate(ask(static_cast<RequestId>(i) + 1, {1, i}, 20), events[static_cast<std::size_t>(i)].sink());
  }
  for (int i = 0; i < 12; ++i) {
    auto& mine = events[static_cast<std::size_t>(i)];
    mine.wait();
    EXPECT_EQ(mine.tokens(), fake_reply({1, i}, 20));
  }
  auto far = ask(100, {kFakeVocabulary}, 1);
  CollectedEvents refused;
  client().generate(far, refused.sink());
  refused.wait();
  EXPECT_EQ(refused.error_code(), ErrorCode::invalid_token_id);
  const auto status = wait_for([](const EngineStatus& s) { return s.kv_blocks > 0 && s.kv_blocks_used == 0; });
  EXPECT_EQ(status.models[0].state, ModelState::ready);
  EXPECT_EQ(status.models[1].state, ModelState::ready);
  EXPECT_GT(status.memory_bytes, 1u << 20);
}

TEST_F(WorkerClientTest, TheBudgetReachesTheEngineAndEveryNextOne) {
  client().set_budget(budget_at(2, ErrorCode::memory_pressure));
  wait_for([](const EngineStatus& s) { return s.backend == "echo" && s.level == 2; });
  client().set_budget(budget_at(1, ErrorCode::memory_pressure));
  wait_for([](const EngineStatus& s) { return s.level == 1; });
  kill_worker();
  wait_for([](const EngineStatus& s) { return s.restarts == 1 && s.state == EngineState::idle && s.level == 1; });
}

class WorkerClientModelsTest : public WorkerClientTest {
 protected:
  WorkerClientModelsTest() {
    options_.supervisor.arguments = {"fake"};
    options_.engine.rows_per_step = 256;
    options_.engine.models[0].load_at_start = false;
  }
  // The error that it ends with, if it does.
  std::optional<ErrorCode> change(const std::string& model, bool loads) {
    std::promise<std::optional<ErrorCode>> over;
    const ModelSink sink = [&](const std::optional<Error>& error) {
      over.set_value(error ? std::optional(error->code()) : std::nullopt);
    };
    loads ? client().load_model(model, sink) : client().unload_model(model, sink);
    return over.get_future().get();
  }
  ModelState state_of(std::size_t model) { return client().status().models.at(model).state; }
};

TEST_F(WorkerClientModelsTest, ModelsComeAndGoInTheWorker) {
  EXPECT_EQ(state_of(0), ModelState::unloaded);
  EXPECT_EQ(state_of(1), ModelState::loading);
  EXPECT_EQ(change("m", true), std::nullopt);
  EXPECT_EQ(state_of(0), ModelState::ready);
  EXPECT_EQ(change("m", false), std::nullopt);
  EXPECT_EQ(state_of(0), ModelState::unloaded);
  EXPECT_EQ(change("nobody", true), ErrorCode::model_not_found);
  CollectedEvents events;
  client().generate(ask(1, {1, 2}, 3), events.sink());  // brings it back
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply({1, 2}, 3));
}

TEST_F(WorkerClientModelsTest, WhatWasUnloadedStaysSoInTheNextWorker) {
  wait_for([](const EngineStatus& s) { return s.models[1].state == ModelState::ready; });
  EXPECT_EQ(change("e", false), std::nullopt);
  kill_worker();
  const auto status = wait_for(
      [](const EngineStatus& s) { return s.restarts == 1 && s.state == EngineState::idle && s.device.empty(); });
  EXPECT_EQ(status.models[1].state, ModelState::unloaded);
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(state_of(1), ModelState::unloaded);
}

TEST_F(WorkerClientModelsTest, AChangeWaitsForAWorkerAndEndsWithIt) {
  options_.supervisor.arguments = {"die"};
  EXPECT_EQ(change("m", true), ErrorCode::engine_unavailable);
  wait_for([](const EngineStatus& s) { return s.state == EngineState::dead; });
  EXPECT_EQ(change("m", false), ErrorCode::engine_unavailable);
  std::promise<ErrorCode> late;
  WorkerClientOptions slow = options_;
  slow.supervisor.executable = "/bin/sh";
  slow.supervisor.arguments = {"-c", "exec sleep 60"};
  slow.supervisor.kill_grace = 100ms;
  client_ = std::make_unique<WorkerClient>(slow);
  client().load_model("m", [&](const std::optional<Error>& error) { late.set_value(error->code()); });
  client_.reset();
  EXPECT_EQ(late.get_future().get(), ErrorCode::engine_unavailable);
}

TEST_F(WorkerClientModelsTest, AWorkerThatKeepsMemoryIsReplacedWhenItIsIdle) {
  options_.supervisor.arguments = {"leak"};
  options_.engine.models[1].load_at_start = false;
  EXPECT_EQ(change("m", true), std::nullopt);
  const pid_t first = client().worker_pid();
  EXPECT_EQ(change("e", true), std::nullopt);
  EXPECT_EQ(change("m", false), std::nullopt);
  std::this_thread::sleep_for(3s);
  EXPECT_EQ(client().worker_pid(), first);  // there is still a model
  EXPECT_EQ(change("e", false), std::nullopt);
  for (int i = 0; i < 1000 && client().worker_pid() == first; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_NE(client().worker_pid(), first);
  CollectedEvents events;
  client().generate(ask(1, {1, 2}, 3), events.sink());
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply({1, 2}, 3));
  const auto status = client().status();
  EXPECT_EQ(status.restarts, 0);
  EXPECT_EQ(status.models[1].state, ModelState::unloaded);
}

TEST_F(WorkerClientModelsTest, AWorkerThatGivesItsMemoryBackStays) {
  options_.engine.models[1].load_at_start = false;
  EXPECT_EQ(change("m", true), std::nullopt);
  const pid_t first = client().worker_pid();
  EXPECT_EQ(change("m", false), std::nullopt);
  std::this_thread::sleep_for(3s);
  EXPECT_EQ(client().worker_pid(), first);
}

TEST_F(WorkerClientTest, BadOptionsEndTheWorker) {
  options_.supervisor.arguments = {"fake"};
  options_.engine.rows_per_step = 1;
  wait_for([](const EngineStatus& s) { return s.state == EngineState::dead; });
}

TEST_F(WorkerClientTest, AnIdleTurnOfNoTimeEndsTheWorker) {
  options_.supervisor.arguments = {"fake"};
  options_.engine.rows_per_step = 256;
  options_.engine.idle_turn_ms = 0;
  wait_for([](const EngineStatus& s) { return s.state == EngineState::dead; });
}

}  // namespace
}  // namespace cortex
