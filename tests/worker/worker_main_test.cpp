#include "worker/worker_main.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <optional>

#include "worker/frame_socket.h"
#include "worker/test_tokens.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto kSoon = 30s;  // far more than it takes; a busy machine is slow

// A real worker process, spoken to frame by frame.
class WorkerMainTest : public testing::Test {
 protected:
  WorkerMainTest() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], kWorkerDescriptor);
      if (ends[1] == kWorkerDescriptor) ::fcntl(kWorkerDescriptor, F_SETFD, 0);
      ::execl(TEST_WORKER, TEST_WORKER, "echo", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    ::close(ends[1]);
    socket_.emplace(Descriptor(ends[0]));
  }
  ~WorkerMainTest() override {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  }

  void hello() {
    HelloFrame frame;
    frame.options.models = {{"m", ""}};
    frame.options.rows_per_step = 5;
    ASSERT_TRUE(socket_->send(frame));
  }

  // The next frame of a kind; others are skipped.
  template <typename Kind>
  std::optional<Kind> next() {
    while (auto frame = socket_->receive()) {
      if (auto* wanted = std::get_if<Kind>(&*frame)) return std::move(*wanted);
    }
    return std::nullopt;
  }

  // How the process ended; nothing when it did not in time.
  std::optional<int> exit_status(std::chrono::milliseconds patience) {
    for (const auto end = steady_clock::now() + patience; steady_clock::now() < end;) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
      }
      std::this_thread::sleep_for(5ms);
    }
    return std::nullopt;
  }

  GenerateFrame ask(RequestId id, std::vector<TokenId> prompt, int max_tokens) {
    GenerateFrame frame;
    frame.request.id = id;
    frame.request.model = "m";
    frame.request.prompt = std::move(prompt);
    frame.request.max_tokens = max_tokens;
    return frame;
  }

  pid_t pid_ = 0;
  std::optional<FrameSocket> socket_;
};

TEST_F(WorkerMainTest, ServesFramesAndBeats) {
  hello();
  const auto beat = next<HeartbeatFrame>();
  ASSERT_TRUE(beat);
  EXPECT_EQ(beat->status.backend, "echo");
  socket_->send(ask(7, {4, 5}, 1));
  const auto event = next<GenerateEventFrame>();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->id, 7u);
  EXPECT_EQ(event->event.tokens.at(0).token, 4);
  EXPECT_EQ(event->event.finish, FinishReason::length);
}

TEST_F(WorkerMainTest, BeatsWhenIdle) {
  hello();
  const auto begin = steady_clock::now();
  for (int beat = 0; beat < 3; ++beat) ASSERT_TRUE(next<HeartbeatFrame>());
  EXPECT_LT(steady_clock::now() - begin, kSoon);
}

// More replies than the worker's queue holds, while nobody reads: some are lost, but every request hears of its end.
TEST_F(WorkerMainTest, AFrontThatDoesNotReadLosesRepliesNotRequests) {
  hello();
  ASSERT_TRUE(next<HeartbeatFrame>());
  EncodeFrame frame;
  frame.request.model = "m";
  frame.request.texts.assign(60000, {1});  // 1.9 MB of vectors
  constexpr int kRequests = 45;
  for (int i = 1; i <= kRequests; ++i) {
    frame.request.id = static_cast<RequestId>(i);
    ASSERT_TRUE(socket_->send(frame));
  }
  socket_->flush(20s);
  std::this_thread::sleep_for(500ms);
  std::map<RequestId, bool> lost;
  while (lost.size() < kRequests) {
    const auto reply = next<EncodeReplyFrame>();
    ASSERT_TRUE(reply);
    EXPECT_TRUE(lost.emplace(reply->id, reply->reply.error.has_value()).second);
  }
  const auto count = std::ranges::count_if(lost, [](const auto& entry) { return entry.second; });
  EXPECT_GT(count, 0);
  EXPECT_LT(count, kRequests);
}

TEST_F(WorkerMainTest, EndsWithItsFront) {
  hello();
  ASSERT_TRUE(next<HeartbeatFrame>());
  socket_->send(ask(1, {4}, 100000));
  ASSERT_TRUE(next<GenerateEventFrame>());
  socket_.reset();
  EXPECT_EQ(exit_status(kSoon), 0);
}

TEST_F(WorkerMainTest, EndsWithItsFrontEvenWhenTheEngineHangs) {
  hello();
  ASSERT_TRUE(next<HeartbeatFrame>());
  socket_->send(ask(1, {kHangToken}, 1));
  std::this_thread::sleep_for(100ms);
  socket_.reset();
  EXPECT_EQ(exit_status(kSoon), 0);
}

TEST_F(WorkerMainTest, EndsBeforeAnyHello) {
  socket_.reset();
  EXPECT_EQ(exit_status(kSoon), 0);
}

TEST_F(WorkerMainTest, EndsWhenToldTo) {
  hello();
  ASSERT_TRUE(next<HeartbeatFrame>());
  socket_->send(ShutdownFrame{});
  EXPECT_EQ(exit_status(kSoon), 0);
}

TEST_F(WorkerMainTest, OutlivesATerminalsInterrupt) {
  hello();
  ASSERT_TRUE(next<HeartbeatFrame>());
  ::kill(pid_, SIGINT);
  ::kill(pid_, SIGTERM);
  socket_->send(ask(7, {4}, 1));
  EXPECT_TRUE(next<GenerateEventFrame>());
}

TEST_F(WorkerMainTest, EndsOnNonsense) {
  socket_->send(CancelFrame{1});  // in place of a hello
  EXPECT_EQ(exit_status(kSoon), 70);
}

TEST_F(WorkerMainTest, EndsOnAFrameThatOnlyAWorkerSends) {
  hello();
  ASSERT_TRUE(next<HeartbeatFrame>());
  socket_->send(HeartbeatFrame{});
  EXPECT_EQ(exit_status(kSoon), 70);
}

}  // namespace
}  // namespace cortex
