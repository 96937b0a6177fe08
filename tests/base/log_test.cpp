#include "base/log.h"

#include <gtest/gtest.h>

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
  EXPECT_NE(text.find("info log-test [req_1] hello\n"), std::string::npos) << text;
  EXPECT_NE(text.find("warning log-test [-] no request\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace cortex
