#include "worker/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "base/channel.h"
#include "base/error.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using testing::HasSubstr;

struct Event {
  std::string what;
  steady_clock::time_point when;
};

class SupervisorTest : public testing::Test {
 protected:
  SupervisorTest() {
    options_.executable = "/bin/sh";
    options_.restart_delay = 100ms;
    options_.max_restart_delay = 150ms;
    options_.kill_grace = 200ms;
  }

  void start(const std::string& script) {
    options_.arguments = {"-c", script};
    SupervisorEvents events;
    events.started = [this](Descriptor descriptor) {
      descriptor_ = std::move(descriptor);
      tell("started");
      if (on_start_) on_start_();
    };
    events.stalled = [this] { tell("stalled"); };
    events.died = [this](const std::string& how) { tell(how); };
    events.gave_up = [this] { tell("gave up"); };
    supervisor_.emplace(options_, std::move(events));
  }

  void tell(std::string what) { events_.send({std::move(what), steady_clock::now()}); }
  Event next() {
    auto event = events_.receive_for(10s);
    return event ? std::move(*event) : Event{"nothing", {}};
  }

  SupervisorOptions options_;
  Channel<Event> events_;
  Descriptor descriptor_;
  std::function<void()> on_start_;
  std::optional<Supervisor> supervisor_;
};

TEST_F(SupervisorTest, AReplacementIsNoDeathAndComesAtOnce) {
  options_.kill_grace = 5s;
  start("trap 'exit 0' TERM; sleep 60 >/dev/null 2>&1 & wait");  // it outlives the shell, and holds nobody's output
  for (int round = 0; round < options_.max_deaths + 1; ++round) {
    EXPECT_EQ(next().what, "started");
    const pid_t pid = supervisor_->pid();
    ASSERT_GT(pid, 0);
    supervisor_->replace();
    ::kill(pid, SIGKILL);  // it goes by itself, as a worker that is told to
  }
  EXPECT_EQ(next().what, "started");
}

TEST_F(SupervisorTest, OneThatDoesNotGoIsKilledAndReplaced) {
  start("exec sleep 60");
  EXPECT_EQ(next().what, "started");
  const pid_t first = supervisor_->pid();
  const auto begin = steady_clock::now();
  supervisor_->replace();
  EXPECT_EQ(next().what, "started");
  EXPECT_GE(steady_clock::now() - begin, options_.kill_grace);
  EXPECT_NE(supervisor_->pid(), first);
}

TEST_F(SupervisorTest, TheFirstDeathIsFollowedAtOnce) {
  options_.restart_delay = options_.max_restart_delay = 1h;
  start("exit 7");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(next().what, "started");
    EXPECT_EQ(next().what, "exit status 7");
  }
  EXPECT_FALSE(events_.receive_for(100ms));
}

TEST_F(SupervisorTest, RestartsLaterAndLaterUntilItGivesUp) {
  start("exit 7");
  std::vector<steady_clock::time_point> starts;
  for (int i = 0; i < 5; ++i) {
    const Event started = next();
    EXPECT_EQ(started.what, "started");
    starts.push_back(started.when);
    EXPECT_EQ(next().what, "exit status 7");
  }
  EXPECT_EQ(next().what, "gave up");
  EXPECT_GE(starts[2] - starts[1], 100ms);
  EXPECT_GE(starts[3] - starts[2], 150ms);  // 200 ms, but for max_restart_delay
  EXPECT_GE(starts[4] - starts[3], 150ms);
  EXPECT_EQ(supervisor_->pid(), 0);
}

TEST_F(SupervisorTest, OldDeathsAreForgotten) {
  options_.death_window = 50ms;
  options_.max_deaths = 2;
  start("sleep 0.1; exit 1");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(next().what, "started");
    EXPECT_EQ(next().what, "exit status 1");
  }
}

TEST_F(SupervisorTest, TellsSignals) {
  start("kill -9 $$");
  EXPECT_EQ(next().what, "started");
  EXPECT_THAT(next().what, HasSubstr("signal 9"));
}

TEST_F(SupervisorTest, TwoProcessesNeverOverlap) {
  start("exec sleep 60");
  EXPECT_EQ(next().what, "started");
  const pid_t first = supervisor_->pid();
  ::kill(first, SIGKILL);
  EXPECT_THAT(next().what, HasSubstr("signal 9"));
  EXPECT_NE(::kill(first, 0), 0);  // reaped before its successor starts
  EXPECT_EQ(next().what, "started");
}

TEST_F(SupervisorTest, SilenceEndsAProcess) {
  options_.stall_after = 1500ms;
  start("exec sleep 60");
  EXPECT_EQ(next().what, "started");
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(100ms);
    supervisor_->beat();
  }
  EXPECT_FALSE(events_.try_receive());
  EXPECT_EQ(next().what, "stalled");
  EXPECT_THAT(next().what, HasSubstr("signal 6"));
}

TEST_F(SupervisorTest, TheFirstBeatMayTakeLonger) {
  options_.stall_after = 100ms;
  options_.start_patience = 1h;
  start("exec sleep 60");
  EXPECT_EQ(next().what, "started");
  EXPECT_FALSE(events_.receive_for(300ms));
  supervisor_->beat();
  EXPECT_EQ(next().what, "stalled");
}

TEST_F(SupervisorTest, AProcessThatResistsIsKilled) {
  options_.stall_after = 200ms;
  options_.start_patience = 200ms;
  start("trap '' ABRT; while :; do sleep 0.05; done");
  EXPECT_EQ(next().what, "started");
  EXPECT_EQ(next().what, "stalled");
  EXPECT_THAT(next().what, HasSubstr("signal 9"));
}

TEST_F(SupervisorTest, TheProcessGetsItsEndAndNothingElse) {
  // 0, 1, 2 and the worker's 3; the listing itself opens 4.
  start("for f in /proc/self/fd/*; do echo ${f##*/}; done >&3; exec sleep 60");
  EXPECT_EQ(next().what, "started");
  std::string seen;
  char bytes[64];
  while (seen.find("3\n") == std::string::npos) {
    const ssize_t count = ::read(descriptor_.get(), bytes, sizeof(bytes));
    ASSERT_GT(count, 0);
    seen.append(bytes, static_cast<std::size_t>(count));
  }
  for (const char* other : {"5\n", "6\n", "7\n", "8\n"}) EXPECT_EQ(seen.find(other), std::string::npos) << seen;
}

TEST_F(SupervisorTest, SignalsToTheWholeGroupDoNotEndIt) {
  start("exec sleep 60");
  EXPECT_EQ(next().what, "started");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    ::kill(supervisor_->pid(), signal);  // before its first instruction
  EXPECT_FALSE(events_.receive_for(300ms));
}

TEST_F(SupervisorTest, AFrontThatCannotTakeItCostsTheProcess) {
  options_.max_deaths = 2;
  on_start_ = [this] {
    char bytes[32] = {};
    EXPECT_GT(::read(descriptor_.get(), bytes, sizeof(bytes) - 1), 0);
    tell(bytes);
    throw std::runtime_error("no room");
  };
  start("echo $$ >&3; exec sleep 60");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(next().what, "started");
    const pid_t pid = std::stoi(next().what);
    EXPECT_EQ(next().what, "could not start: no room");
    EXPECT_NE(::kill(pid, 0), 0);
  }
  EXPECT_EQ(next().what, "gave up");
}

TEST_F(SupervisorTest, RefusesToWatchTooClosely) {
  for (const auto stall_after : {-1ms, 0ms, Supervisor::kMinStallAfter - 1ms}) {
    options_.stall_after = stall_after;
    try {
      start("exec sleep 60");
      FAIL() << stall_after.count();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_option);
    }
  }
  EXPECT_FALSE(events_.receive_for(50ms));
}

TEST_F(SupervisorTest, StopWaitsForTheProcess) {
  options_.kill_grace = 1h;
  start("exec cat <&3 >/dev/null");
  EXPECT_EQ(next().what, "started");
  const pid_t pid = supervisor_->pid();
  supervisor_->stop();
  descriptor_.reset();  // the end of its stream
  supervisor_.reset();
  EXPECT_NE(::kill(pid, 0), 0);
  EXPECT_FALSE(events_.try_receive());  // a wanted end is no death
}

}  // namespace
}  // namespace cortex
