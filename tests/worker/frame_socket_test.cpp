#include "worker/frame_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace cortex {
namespace {

using namespace std::chrono_literals;

struct Pair {
  explicit Pair(std::size_t queue_bytes = FrameSocket::kQueueBytes) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    near.emplace(Descriptor(ends[0]), queue_bytes);
    far = Descriptor(ends[1]);
  }
  std::optional<FrameSocket> near;
  Descriptor far;
};

TEST(FrameSocket, FramesArriveInOrder) {
  Pair pair;
  FrameSocket far(std::move(pair.far));
  for (RequestId id = 1; id <= 1000; ++id) ASSERT_TRUE(pair.near->send(CancelFrame{id}));
  for (RequestId id = 1; id <= 1000; ++id) {
    const auto frame = far.receive();
    ASSERT_TRUE(frame);
    ASSERT_EQ(std::get<CancelFrame>(*frame).id, id);
  }
  pair.near.reset();
  EXPECT_FALSE(far.receive());
}

TEST(FrameSocket, ASenderNeverWaitsForASlowReader) {
  Pair pair(1 << 20);
  EncodeReplyFrame large;
  large.reply.vectors.assign(50000, 1.0f);
  int sent = 0;
  while (sent < 100 && pair.near->send(large)) ++sent;
  EXPECT_GE(sent, 5);
  EXPECT_LT(sent, 100);
  FrameSocket far(std::move(pair.far));
  for (int i = 0; i < sent; ++i) EXPECT_TRUE(far.receive());
  pair.near->flush(5s);
  EXPECT_TRUE(pair.near->send(large));  // there is room again
}

TEST(FrameSocket, AGoneReaderIsNoSignal) {
  Pair pair;
  pair.far.reset();
  pair.near->send(CancelFrame{1});
  pair.near->flush(5s);
  EXPECT_FALSE(pair.near->receive());
  EXPECT_FALSE(pair.near->send(CancelFrame{2}));
}

TEST(FrameSocket, ShutDownWakesTheReader) {
  Pair pair;
  std::thread reader([&] { EXPECT_FALSE(pair.near->receive()); });
  pair.near->shut_down();
  reader.join();
  EXPECT_FALSE(pair.near->send(CancelFrame{1}));
}

TEST(FrameSocket, NonsenseIsAnError) {
  Pair pair;
  ASSERT_EQ(::write(pair.far.get(), "\xff\xff\xff\xff", 4), 4);
  EXPECT_THROW(pair.near->receive(), Error);
}

}  // namespace
}  // namespace cortex
