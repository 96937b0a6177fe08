#include "base/error.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace cortex {
namespace {

TEST(Error, EveryCodeHasItsOwnNameAndIsFoundByIt) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(ErrorCode::invalid_option); ++i) {
    const auto code = static_cast<ErrorCode>(i);
    EXPECT_TRUE(names.insert(name_of(code)).second) << name_of(code);
    EXPECT_EQ(error_code_of(name_of(code)), code);
  }
}

TEST(Error, NamesFollowTheWire) {
  EXPECT_EQ(name_of(ErrorCode::invalid_framing), "invalid_framing");
  EXPECT_EQ(name_of(ErrorCode::model_not_capable), "model_not_capable");
  EXPECT_EQ(name_of(ErrorCode::deadline_exceeded), "deadline_exceeded");
  EXPECT_EQ(name_of(ErrorCode::invalid_option), "invalid_option");
}

TEST(Error, AnUnknownNameIsAnInternalError) { EXPECT_EQ(error_code_of("no_such"), ErrorCode::internal_error); }

TEST(Error, CheckSaysWhereAndWhat) {
  try {
    CORTEX_CHECK(1 + 1 == 3);
    FAIL() << "nothing was thrown";
  } catch (const CheckFailure& failure) {
    const std::string what = failure.what();
    EXPECT_NE(what.find("error_test.cpp:"), std::string::npos) << what;
    EXPECT_NE(what.find("1 + 1 == 3"), std::string::npos) << what;
  }
}

}  // namespace
}  // namespace cortex
