#include "backend/cpu/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <future>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

TEST(ThreadTeam, EveryPartIsDoneOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    EXPECT_EQ(team.size(), threads);
    for (const int parts : {0, 1, 2, 7}) {
      std::vector<int> calls(static_cast<std::size_t>(parts));
      for (int round = 0; round < 300; ++round) {
        team.run(parts, [&](int part) { ++calls[static_cast<std::size_t>(part)]; });
      }
      EXPECT_EQ(calls, std::vector<int>(static_cast<std::size_t>(parts), 300));
    }
  }
}

TEST(ThreadTeam, PartsCoverTheItemsOnce) {
  ThreadTeam team(3);
  for (const int items : {0, 1, 2, 3, 4, 100}) {
    std::vector<int> touched(static_cast<std::size_t>(items));
    team.parallel_for(items, [&](int begin, int end) {
      for (int i = begin; i < end; ++i) ++touched[static_cast<std::size_t>(i)];
    });
    EXPECT_EQ(touched, std::vector<int>(static_cast<std::size_t>(items), 1));
  }
}

TEST(ThreadTeam, WakesAfterASleep) {
  ThreadTeam team(2);
  std::atomic<int> calls{0};
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    team.run(2, [&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 6);
}

TEST(ThreadTeam, ThrowsWhatAPartThrew) {
  ThreadTeam team(2);
  for (int thrower = 0; thrower < 2; ++thrower) {
    EXPECT_THROW(team.run(2,
                          [&](int part) {
                            if (part == thrower) throw std::runtime_error("a part");
                          }),
                 std::runtime_error);
  }
  EXPECT_NO_THROW(team.run(2, [](int) {}));
}

// On a busy machine the system may run a thread late.
TEST(ThreadTeam, AThreadThatDoesNotRunHoldsNothingUp) {
  std::atomic<bool> may_run{false};
  const auto start = [&](std::function<void()> body) {
    return std::thread([&may_run, body = std::move(body)] {
      may_run.wait(false);
      body();
    });
  };
  ThreadTeam team(3, start);
  std::vector<int> touched(100);
  auto work = std::async(std::launch::async, [&] {
    team.parallel_for(100, [&](int begin, int end) {
      for (int i = begin; i < end; ++i) ++touched[static_cast<std::size_t>(i)];
    });
  });
  EXPECT_EQ(work.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  may_run = true;
  may_run.notify_all();
  work.get();
  EXPECT_EQ(touched, std::vector<int>(100, 1));
}

TEST(ThreadTeam, AThreadThatCannotBeStartedStopsTheOthers) {
  int started = 0;
  std::atomic<int> running{0};
  const auto start = [&](std::function<void()> body) {
    if (++started == 3) throw std::system_error(EAGAIN, std::generic_category());
    ++running;
    return std::thread([&running, body = std::move(body)] {
      body();
      --running;
    });
  };
  try {
    ThreadTeam(5, start);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::engine_unavailable);
    EXPECT_NE(error.message().find("cpu backend: 5 threads could not be started: "), std::string::npos) << error.what();
  }
  EXPECT_EQ(started, 3);
  EXPECT_EQ(running, 0);
}

TEST(ThreadTeam, ZeroIsOnePerCore) { EXPECT_GE(ThreadTeam(0).size(), 1); }

}  // namespace
}  // namespace cortex
