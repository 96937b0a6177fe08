#include "base/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

namespace cortex {
namespace {

TEST(Log, EveryLineCarriesTheProcessTheLevelAndTheRequestId) {
  testing::internal::CaptureStderr();
  start_log(LogLevel::info, "log-test");
  log_debug("not shown", "req_0");
  log_info("hello", "req_1");
  log_warning("no request");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("not shown"), std::string::npos) << text;
  EXPECT_NE(text.find(" info log-test [req_1] hello\n"), std::string::npos) << text;
  EXPECT_NE(text.find(" warning log-test [-] no request\n"), std::string::npos) << text;
}

TEST(Log, AMessageIsOneLineWhateverItRepeats) {
  testing::internal::CaptureStderr();
  start_log(LogLevel::info, "log-test");
  log_info("a\nb\r\x1b[2J\x7f \"ä\" \\");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(text.ends_with("a\\x0ab\\x0d\\x1b[2J\\x7f \"ä\" \\\n")) << text;
}

// Standard error is a pipe for the length of a test.
class LogToPipeTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::pipe(ends_.data()), 0);
    saved_ = ::dup(STDERR_FILENO);
    ::dup2(ends_[1], STDERR_FILENO);
    start_log(LogLevel::info, "log-test");
  }
  void TearDown() override {
    ::dup2(saved_, STDERR_FILENO);
    ::close(saved_);
    ::close(ends_[0]);
    ::close(ends_[1]);
  }

  std::string read_some() {
    std::string text(1 << 20, '\0');
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::read(ends_[0], text.data(), text.size()))));
    return text;
  }

  std::array<int, 2> ends_{};
  int saved_ = -1;
};

TEST_F(LogToPipeTest, AReaderThatHasStoppedStopsNobodyAndHearsWhatItMissed) {
  for (int i = 0; i < 5000; ++i) log_info(std::string(100, 'x'));  // a pipe holds 64 KiB
  std::string text = read_some();
  EXPECT_NE(text.find("xxx"), std::string::npos);
  log_info("again");
  text = read_some();
  EXPECT_NE(text.find("lines of the log were lost\n"), std::string::npos) << text;
  EXPECT_NE(text.find("again\n"), std::string::npos) << text;
}

TEST_F(LogToPipeTest, ALineOfAnyLengthIsCutToOneWrite) {
  log_info(std::string(100'000, 'x'));
  const std::string text = read_some();
  EXPECT_EQ(text.size(), 4096u);
  EXPECT_TRUE(text.ends_with("x\n"));
}

}  // namespace
}  // namespace cortex
