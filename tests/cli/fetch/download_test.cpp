#include "cli/fetch/download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace cortex {
namespace {

using testing::HasSubstr;

TEST(ContentRange, IsRead) {
  std::uint64_t first = 0, total = 0;
  ASSERT_TRUE(read_content_range("bytes 5-9/10", &first, &total));
  EXPECT_EQ(first, 5u);
  EXPECT_EQ(total, 10u);
}

TEST(ContentRange, RefusesOthers) {
  std::uint64_t first = 0, total = 0;
  for (const char* text : {"", "bytes", "bytes */10", "bytes 5-9", "bytes 5-9/*", "bytes 9-5/10", "bytes 5-10/10",
                           "bytes 5-9/10x", "bytes -1-9/10", "bytes 99999999999999999999-9/10", "items 5-9/10"}) {
    EXPECT_FALSE(read_content_range(text, &first, &total)) << text;
  }
}

class StatusTest : public testing::Test {
 protected:
  std::string message_of(ErrorCode code) const {
    try {
      throw_for_status(retrieval_, "acme/tiny", credential_);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.message();
      return error.message();
    }
    return "nothing was thrown";
  }

  Credential credential_{parse_url("https://hub.example"), ""};
  Retrieval retrieval_{{}, parse_url("https://hub.example/x"), ""};
};

TEST_F(StatusTest, SaysWhatATokenIsNeededFor) {
  retrieval_.last.status = 401;
  EXPECT_THAT(message_of(ErrorCode::invalid_api_key), HasSubstr("give a token"));
  retrieval_.last.headers["x-error-code"] = "GatedRepo";
  EXPECT_THAT(message_of(ErrorCode::invalid_api_key), HasSubstr("accept its terms"));
  credential_.token = "hf_x";
  EXPECT_THAT(message_of(ErrorCode::invalid_api_key), HasSubstr("has not been granted access"));
  EXPECT_EQ(message_of(ErrorCode::invalid_api_key).find("hf_x"), std::string::npos);
}

TEST_F(StatusTest, SaysWhenTheTokenWasNotSent) {
  retrieval_.last.status = 403;
  credential_ = {parse_url("http://mirror.example"), "hf_x"};
  retrieval_.url = credential_.home;
  EXPECT_THAT(message_of(ErrorCode::invalid_api_key), HasSubstr("was not sent"));
}

TEST_F(StatusTest, KnowsTheOthers) {
  retrieval_.last.status = 404;
  EXPECT_THAT(message_of(ErrorCode::model_not_found), HasSubstr("acme/tiny"));
  retrieval_.last.status = 418;
  retrieval_.error_text = "a\nteapot\x1b[31m";
  EXPECT_THAT(message_of(ErrorCode::internal_error), HasSubstr("418"));
  retrieval_.last.status = 206;
  EXPECT_EQ(message_of(ErrorCode::internal_error), "nothing was thrown");
}

TEST_F(StatusTest, ABusyServerMayAskForTime) {
  retrieval_.last.status = 429;
  const auto asked = [&](const char* text) {
    retrieval_.last.headers["retry-after"] = text;
    try {
      throw_if_passing(retrieval_);
    } catch (const ServerBusy& busy) {
      return busy.ask_again_after().count();
    }
    return std::chrono::seconds::rep{-1};
  };
  EXPECT_EQ(asked("7"), 7);
  for (const char* text : {"", "-7", "7s", "99999999999", "Wed, 21 Oct 2026 07:28:00 GMT"}) EXPECT_EQ(asked(text), 0);
}

TEST_F(StatusTest, SomeFailuresPass) {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    retrieval_.last.status = status;
    EXPECT_THROW(throw_if_passing(retrieval_), NetworkFailure) << status;
  }
  for (const int status : {200, 206, 301, 401, 404, 416}) {
    retrieval_.last.status = status;
    EXPECT_NO_THROW(throw_if_passing(retrieval_)) << status;
  }
}

}  // namespace
}  // namespace cortex
