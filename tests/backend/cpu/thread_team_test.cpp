#include "backend/cpu/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

TEST(ThreadTeam, EveryMemberWorksOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    EXPECT_EQ(team.size(), threads);
    std::vector<int> calls(static_cast<std::size_t>(threads));
    for (int round = 0; round < 300; ++round) {
      team.run([&](int member) { ++calls[static_cast<std::size_t>(member)]; });
    }
    EXPECT_EQ(calls, std::vector<int>(static_cast<std::size_t>(threads), 300));
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
    team.run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 6);
}

TEST(ThreadTeam, ThrowsWhatAMemberThrew) {
  ThreadTeam team(2);
  for (int thrower = 0; thrower < 2; ++thrower) {
    EXPECT_THROW(team.run([&](int member) {
      if (member == thrower) throw std::runtime_error("a member");
    }),
                 std::runtime_error);
  }
  EXPECT_NO_THROW(team.run([](int) {}));
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
