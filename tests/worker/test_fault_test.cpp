#include "worker/test_fault.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "base/error.h"

namespace cortex {
namespace {

class TestFaultTest : public testing::Test {
 protected:
  ~TestFaultTest() override { ::unsetenv(kTestFaultVariable); }
  static void set(const std::string& text) { ::setenv(kTestFaultVariable, text.c_str(), 1); }

  static constexpr std::array<TokenId, 2> kTokens = {5, 99};
};

TestFault parsed(const std::string& text) {
  const std::vector<TestFault> faults = parse_test_faults(text);
  EXPECT_EQ(faults.size(), 1);
  return faults.front();
}

TEST_F(TestFaultTest, SaysWhatItStrikes) {
  const TestFault token = parsed("abort_on_token:99");
  EXPECT_TRUE(token.strikes("decode", kTokens));
  EXPECT_FALSE(token.strikes("decode", std::span(kTokens).first(1)));
  EXPECT_TRUE(token.file.empty());
  const TestFault phase = parsed("segv_in:write@/tmp/now");
  EXPECT_TRUE(phase.strikes("write", {}));
  EXPECT_FALSE(phase.strikes("prompt", kTokens));
  EXPECT_EQ(phase.file, "/tmp/now");
  EXPECT_FALSE(phase.throws);
  const TestFault thrown = parsed("throw_in:encode");
  EXPECT_TRUE(thrown.throws && thrown.strikes("encode", {}) && !thrown.strikes("write", {}));
  for (const char* named : {"grammar", "draft", "verify"}) {
    EXPECT_TRUE(parsed("throw_in:" + std::string(named)).strikes(named, {})) << named;
  }
  EXPECT_TRUE(parsed("ignore_budgets").ignores_budgets);
}

TEST_F(TestFaultTest, RefusesWhatIsNone) {
  for (const char* text : {"",
                           "segv",
                           "segv_in:",
                           "segv_in:lunch",
                           "abort_on_token:",
                           "abort_on_token:1x",
                           "abort_on_token:99999999999",
                           "segv_in:write@",
                           "throw_in:lunch",
                           "ignore_budgets@/tmp/now",
                           "slow_in:decode",
                           "slow_in:decode:",
                           "slow_in:decode:0",
                           "slow_in:decode:1s",
                           "slow_in:lunch:1",
                           "slow_in:5",
                           "slow_in:decode:5@",
                           "segv_in:write,",
                           ",segv_in:write",
                           "segv_in:write,segv_in:lunch"}) {
    EXPECT_THROW(parse_test_faults(text), Error) << text;
  }
}

TEST_F(TestFaultTest, WithoutTheVariableThereIsNone) {
  EXPECT_FALSE(test_failpoint());
  set("");
  EXPECT_FALSE(test_failpoint());
  EXPECT_FALSE(test_ignores_budgets());
}

TEST_F(TestFaultTest, AnExceptionIsThrownWhereItIsWanted) {
  set("throw_in:prompt");
  const Failpoint failpoint = test_failpoint();
  EXPECT_NO_THROW(failpoint("decode", kTokens));
  EXPECT_THROW(failpoint("prompt", kTokens), Error);
  EXPECT_FALSE(test_ignores_budgets());
  set("ignore_budgets");
  EXPECT_FALSE(test_failpoint());
  EXPECT_TRUE(test_ignores_budgets());
}

TEST_F(TestFaultTest, Strikes) {
  set("segv_in:prompt");
  EXPECT_EXIT(test_failpoint()("prompt", kTokens), testing::KilledBySignal(SIGSEGV), "");
  set("abort_on_token:5");
  EXPECT_EXIT(test_failpoint()("encode", kTokens), testing::KilledBySignal(SIGABRT), "");
  test_failpoint()("encode", std::span(kTokens).last(1));
}

TEST_F(TestFaultTest, StrikesOnlyWhileItsFileIsThereAndTakesItAway) {
  const std::string file = testing::TempDir() + "cortex_fault." + std::to_string(::getpid());
  set("segv_in:prompt@" + file);
  const Failpoint failpoint = test_failpoint();
  failpoint("prompt", kTokens);
  const std::ofstream made(file);
  failpoint("decode", kTokens);
  EXPECT_EXIT(failpoint("prompt", kTokens), testing::KilledBySignal(SIGSEGV), "");
  failpoint("prompt", kTokens);
}

TEST_F(TestFaultTest, IsSlowWhileItsFileIsThere) {
  const TestFault slow = parsed("slow_in:decode:40@/tmp/now");
  EXPECT_TRUE(slow.strikes("decode", {}) && !slow.strikes("prompt", {}) && !slow.throws);
  EXPECT_EQ(slow.pause, std::chrono::milliseconds(40));
  const std::string file = testing::TempDir() + "cortex_slow." + std::to_string(::getpid());
  // So long that whoever waited for it by mistake would be found out.
  set("slow_in:encode:600000@" + file + ",slow_in:decode:40@" + file);
  const Failpoint failpoint = test_failpoint();
  failpoint("encode", kTokens);
  const std::ofstream made(file);
  failpoint("prompt", kTokens);
  for (int i = 0; i < 2; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    failpoint("decode", kTokens);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(40));
  }
  ASSERT_EQ(::unlink(file.c_str()), 0);
  failpoint("encode", kTokens);
}

TEST_F(TestFaultTest, SeveralAreCommittedEachInItsPlace) {
  set("ignore_budgets,throw_in:prompt,segv_in:decode");
  EXPECT_TRUE(test_ignores_budgets());
  const Failpoint failpoint = test_failpoint();
  failpoint("encode", kTokens);
  EXPECT_THROW(failpoint("prompt", kTokens), Error);
  EXPECT_EXIT(failpoint("decode", kTokens), testing::KilledBySignal(SIGSEGV), "");
}

}  // namespace
}  // namespace cortex
