#include "service/running_calls.h"

#include <gtest/gtest.h>

#include <memory>

namespace cortex {
namespace {

TEST(RunningCalls, ACallIsCancelledByItsOwnerWhileItRuns) {
  RunningCalls calls;
  int cancelled = 0;
  calls.add("chat-1", "alice", [&] { ++cancelled; });
  EXPECT_FALSE(calls.cancel("chat-1", "bob"));
  EXPECT_FALSE(calls.cancel("chat-2", "alice"));
  EXPECT_EQ(cancelled, 0);
  EXPECT_TRUE(calls.cancel("chat-1", "alice"));
  EXPECT_EQ(cancelled, 1);
  calls.remove("chat-1");
  EXPECT_FALSE(calls.cancel("chat-1", "alice"));
  calls.remove("chat-1");
}

TEST(RunningCalls, NothingOfARemovedCallIsKept) {
  RunningCalls calls;
  auto held = std::make_shared<int>(1);
  calls.add("chat-1", "", [held] {});
  EXPECT_EQ(held.use_count(), 2);
  calls.remove("chat-1");
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace cortex
