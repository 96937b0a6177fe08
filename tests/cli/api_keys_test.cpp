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

// Of variables that are set so.
Environment environment(std::string api, std::string admin) {
  return [api = std::move(api), admin = std::move(admin)](const char* name) -> const char* {
    if (name == std::string("CORTEX_API_KEYS") && !api.empty()) return api.c_str();
    if (name == std::string("CORTEX_ADMIN_KEYS") && !admin.empty()) return admin.c_str();
    return nullptr;
  };
}

TEST_F(ApiKeysTest, NoneWhereNoneAreNamed) { EXPECT_TRUE(read_access_keys("", "", environment("", "")).none()); }

TEST_F(ApiKeysTest, TheEnvironmentSeparatesThemByCommasOrLines) {
  const AccessKeys keys = read_access_keys("", "", environment("first-key, second-key\nthird-key\r\n,", "admin-key-1"));
  EXPECT_THAT(keys.api, ElementsAre("first-key", "second-key", "third-key"));
  EXPECT_THAT(keys.admin, ElementsAre("admin-key-1"));
}

TEST_F(ApiKeysTest, FilesAndEnvironmentAddUp) {
  folder_.write("keys", "from-a-file\n");
  folder_.write("admins", "admin-of-a-file\n");
  const AccessKeys keys = read_access_keys((folder_.path() / "keys").string(), (folder_.path() / "admins").string(),
                                           environment("from-the-environment", "admin-of-the-environment"));
  EXPECT_THAT(keys.api, ElementsAre("from-the-environment", "from-a-file"));
  EXPECT_THAT(keys.admin, ElementsAre("admin-of-the-environment", "admin-of-a-file"));
}

TEST_F(ApiKeysTest, AMessageNamesTheSourceAndNoKey) {
  const auto message = [](const std::string& admin_file, const Environment& given) {
    try {
      read_access_keys("", admin_file, given);
    } catch (const Error& error) {
      return error.message();
    }
    return std::string("it was taken");
  };
  EXPECT_THAT(message("", environment("good-enough,sec", "")), HasSubstr("CORTEX_API_KEYS: a key of 3 characters"));
  EXPECT_THAT(message("", environment("", " ,\n")), HasSubstr("CORTEX_ADMIN_KEYS: has no key"));
  EXPECT_THAT(message("", environment("", "secret-k\tey")), HasSubstr("CORTEX_ADMIN_KEYS: a key holds"));
  EXPECT_THAT(message("/nonexistent", environment("", "")), HasSubstr("--admin-key-file"));
}

}  // namespace
}  // namespace cortex
