#include "cli/fetch/retries.h"

#include <gtest/gtest.h>

#include <memory>

namespace cortex {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

class RetriesTest : public testing::Test {
 protected:
  Retries retries() { return {"tiny", rules_, progress_}; }
  static milliseconds time_of(Retries* retries, const NetworkFailure& failure) {
    const auto begun = Clock::now();
    retries->wait_after(failure, "");
    return std::chrono::duration_cast<milliseconds>(Clock::now() - begun);
  }

  const NetworkFailure broken_{"the connection broke"};
  RetryRules rules_{3, 1, milliseconds(10), milliseconds(20), milliseconds(100)};
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> out_{std::tmpfile(), std::fclose};
  Progress progress_{out_.get()};
};

TEST_F(RetriesTest, AreBounded) {
  Retries some = retries();
  some.wait_after(broken_, "go on");
  some.wait_after(broken_, "go on");
  try {
    some.wait_after(broken_, "go on");
    FAIL() << "it went on";
  } catch (const NetworkFailure& failure) {
    EXPECT_STREQ(failure.what(), "tiny: the connection broke; 3 attempts failed; go on");
  }
  some.begin_again();
  EXPECT_NO_THROW(some.wait_after(broken_, ""));
}

TEST_F(RetriesTest, WaitLongerEachTime) {
  rules_.attempts = 10;
  Retries some = retries();
  EXPECT_GE(time_of(&some, broken_), milliseconds(10));
  EXPECT_GE(time_of(&some, broken_), milliseconds(20));
}

TEST_F(RetriesTest, WaitAsLongAsTheServerAsks) {
  rules_.longest_asked_delay = milliseconds(200);
  Retries some = retries();
  const ServerBusy busy("status 429", std::chrono::seconds(3600));
  const milliseconds waited = time_of(&some, busy);
  EXPECT_GE(waited, milliseconds(200));
  EXPECT_LT(waited, std::chrono::seconds(60));
}

TEST_F(RetriesTest, OnlyTheBusyAreAskedAgain) {
  int asked = 0;
  const int found = while_busy(retries(), [&] {
    if (++asked < 3) throw ServerBusy("status 503", {});
    return asked;
  });
  EXPECT_EQ(found, 3);
  asked = 0;
  const auto unreachable = [&]() -> int {
    ++asked;
    throw broken_;
  };
  EXPECT_THROW(while_busy(retries(), unreachable), NetworkFailure);
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace cortex
