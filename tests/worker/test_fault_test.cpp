#include "worker/test_fault.h"

#include <gtest/gtest.h>

#include <array>
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

TEST_F(TestFaultTest, SaysWhatItStrikes) {
  const TestFault token = parse_test_fault("abort_on_token:99");
  EXPECT_TRUE(token.strikes("decode", kTokens));
  EXPECT_FALSE(token.strikes("decode", std::span(kTokens).first(1)));
  EXPECT_TRUE(token.file.empty());
  const TestFault phase = parse_test_fault("segv_in:write@/tmp/now");
  EXPECT_TRUE(phase.strikes("write", {}));
  EXPECT_FALSE(phase.strikes("prompt", kTokens));
  EXPECT_EQ(phase.file, "/tmp/now");
  EXPECT_FALSE(phase.throws);
  const TestFault thrown = parse_test_fault("throw_in:encode");
  EXPECT_TRUE(thrown.throws && thrown.strikes("encode", {}) && !thrown.strikes("write", {}));
  EXPECT_TRUE(parse_test_fault("throw_in:grammar").strikes("grammar", {}));
  EXPECT_TRUE(parse_test_fault("ignore_budgets").ignores_budgets);
}

TEST_F(TestFaultTest, RefusesWhatIsNone) {
  for (const char* text :
       {"", "segv", "segv_in:", "segv_in:lunch", "abort_on_token:", "abort_on_token:1x", "abort_on_token:99999999999",
        "segv_in:write@", "throw_in:lunch", "ignore_budgets@/tmp/now"}) {
    EXPECT_THROW(parse_test_fault(text), Error) << text;
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

}  // namespace
}  // namespace cortex
