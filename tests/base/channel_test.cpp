#include "base/channel.h"

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace cortex {
namespace {

using namespace std::chrono_literals;

TEST(Channel, KeepsTheOrder) {
  Channel<int> channel;
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(channel.send(int{i}));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(channel.try_receive(), i);
  EXPECT_EQ(channel.try_receive(), std::nullopt);
}

TEST(Channel, LeavesAValueItCanNotTake) {
  Channel<std::unique_ptr<int>> channel(1);
  EXPECT_TRUE(channel.try_send(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(channel.try_send(std::move(second)));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, 2);
}

TEST(Channel, GivesWhatIsLeftAfterClosing) {
  Channel<int> channel;
  channel.send(1);
  channel.close();
  EXPECT_FALSE(channel.send(2));
  EXPECT_EQ(channel.receive(), 1);
  EXPECT_EQ(channel.receive(), std::nullopt);
}

TEST(Channel, ReceiveForGivesUp) {
  Channel<int> channel;
  EXPECT_EQ(channel.receive_for(1ms), std::nullopt);
  EXPECT_FALSE(channel.closed());
}

TEST(Channel, ClosingWakesASenderThatWaitsForRoom) {
  Channel<int> channel(1);
  channel.send(1);
  std::thread sender([&] { EXPECT_FALSE(channel.send(2)); });
  std::this_thread::sleep_for(5ms);
  channel.close();
  sender.join();
}

// A fault shows under ThreadSanitizer, and as a sender that hangs now and then.
TEST(Channel, AReceiverMayEndItWhileTheSenderIsOnItsWayOut) {
  for (int i = 0; i < 2000; ++i) {
    auto channel = std::make_unique<Channel<int>>();
    std::thread sender([channel = channel.get()] { channel->send(1); });
    EXPECT_EQ(channel->receive(), 1);
    channel.reset();
    sender.join();
  }
}

TEST(Channel, LosesNothingBetweenManyThreads) {
  constexpr int kEach = 2000;
  Channel<int> channel(3);
  std::vector<std::thread> senders;
  for (int s = 0; s < 3; ++s) {
    senders.emplace_back([&] {
      for (int i = 1; i <= kEach; ++i) channel.send(int{i});
    });
  }
  std::vector<long> sums(2, 0);
  std::vector<std::thread> receivers;
  for (int r = 0; r < 2; ++r) {
    receivers.emplace_back([&, r] {
      while (auto value = channel.receive()) sums[r] += *value;
    });
  }
  for (auto& sender : senders) sender.join();
  channel.close();
  for (auto& receiver : receivers) receiver.join();
  EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), 0L), 3L * kEach * (kEach + 1) / 2);
}

}  // namespace
}  // namespace cortex
