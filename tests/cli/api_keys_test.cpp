#include "cli/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ApiKeysTest : public testing::Test {
 protected:
  std::vector<std::string> read(const std::string& content) const {
    folder_.write("keys", content);
    return read_api_keys((folder_.path() / "keys").string());
  }
  std::string message_of(const std::string& content) const {
    try {
      read(content);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_option);
      return error.message();
    }
    return "it was taken";
  }

  TemporaryFolder folder_;
};

TEST_F(ApiKeysTest, OneALine) {
  EXPECT_THAT(read("# ours\nfirst-key\r\n\nsecond key"), ElementsAre("first-key", "second key"));
}

TEST_F(ApiKeysTest, RefusesWhatIsNone) {
  EXPECT_THAT(message_of("# none\n\n"), HasSubstr("has no key"));
  EXPECT_THAT(message_of("short\n"), HasSubstr("5 characters; at least 8"));
  for (const char* key : {"secret-k\rey", "secret-k\tey", "secret-k\xc3\xa9y", "secret-k\x7f"}) {
    const std::string message = message_of(key);
    EXPECT_THAT(message, HasSubstr("characters that a header can't hold"));
    EXPECT_EQ(message.find("secret"), std::string::npos);
  }
  EXPECT_THROW(read_api_keys("/nonexistent"), Error);
}

}  // namespace
}  // namespace cortex
