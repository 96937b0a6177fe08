#include "cli/fetch/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using testing::HasSubstr;

const std::string kCommit(40, 'a');
const std::string kSha256(64, 'b');

std::string answer(const std::string& siblings, const std::string& sha = kCommit) {
  return R"({"id":"acme/tiny","sha":")" + sha + R"(","siblings":[)" + siblings + "]}";
}

std::string message_of(const std::string& json) {
  try {
    parse_hub_revision(json, "the answer");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::internal_error) << error.message();
    return error.message();
  }
  return "it was taken";
}

TEST(HubRevision, IsRead) {
  const HubRevision revision =
      parse_hub_revision(answer(R"({"rfilename":"config.json","size":10,"blobId":")" + kCommit +
                                R"("},{"rfilename":"model.safetensors","size":134,"blobId":"x","lfs":{"sha256":")" +
                                kSha256 + R"(","size":5000000000,"pointerSize":134}})"),
                         "the answer");
  EXPECT_EQ(revision.commit, kCommit);
  ASSERT_EQ(revision.files.size(), 2u);
  EXPECT_EQ(revision.files[0].path, "config.json");
  EXPECT_EQ(revision.files[0].size_bytes, 10u);
  EXPECT_EQ(revision.files[0].checksum, kCommit);
  EXPECT_EQ(revision.files[1].size_bytes, 5'000'000'000u);
  EXPECT_EQ(revision.files[1].checksum, kSha256);
}

TEST(HubRevision, TrustsNothing) {
  const auto file = [](const std::string& fields) { return answer("{" + fields + "}"); };
  const std::string blob = R"("blobId":")" + kCommit + "\"";
  EXPECT_THAT(message_of("<html>"), HasSubstr("the answer"));
  EXPECT_THAT(message_of("[]"), HasSubstr("the answer"));
  EXPECT_THAT(message_of(answer("", "../..")), HasSubstr("sha"));
  EXPECT_THAT(message_of(R"({"sha":")" + kCommit + R"("})"), HasSubstr("siblings"));
  EXPECT_THAT(message_of(answer("3")), HasSubstr("is no object"));
  for (const char* path : {"../x", "/etc/passwd", "a/../../x", "", "a\\\\b", "a\\u0000b", "."}) {
    EXPECT_THAT(message_of(file(R"("size":1,)" + blob + R"(,"rfilename":")" + path + "\"")),
                HasSubstr("is no path of a file"))
        << path;
  }
  EXPECT_THAT(message_of(file(R"("size":-1,"rfilename":"x",)" + blob)), HasSubstr("size"));
  EXPECT_THAT(message_of(file(R"("size":"1","rfilename":"x",)" + blob)), HasSubstr("size"));
  EXPECT_THAT(message_of(file(R"("size":1,"rfilename":"x","blobId":"../../x")")), HasSubstr("is no SHA-1"));
  EXPECT_THAT(message_of(file(R"("size":1,"rfilename":"x","lfs":{"size":1,"sha256":"../../x"})")),
              HasSubstr("is no SHA-256"));
}

class HubTokenTest : public testing::Test {
 protected:
  std::string token(const std::map<std::string, std::string>& values, const std::string& file = {}) const {
    return hub_token(
        real_file_system(), [&](const char* name) { return values.contains(name) ? values.at(name).c_str() : nullptr; },
        file);
  }

  TemporaryFolder folder_;
  const std::string root_ = folder_.path().string();
};

TEST_F(HubTokenTest, HasItsOrder) {
  folder_.write("home/token", "hf_home\n");
  folder_.write("named", " hf_named \n");
  folder_.write("given", "hf_given");
  std::map<std::string, std::string> values = {{"HF_HOME", root_ + "/home"}};
  EXPECT_EQ(token(values), "hf_home");
  values["HF_TOKEN_PATH"] = root_ + "/named";
  EXPECT_EQ(token(values), "hf_named");
  values["HF_TOKEN"] = "hf_env";
  EXPECT_EQ(token(values), "hf_env");
  EXPECT_EQ(token(values, root_ + "/given"), "hf_given");
  EXPECT_EQ(token({}), "");
  EXPECT_EQ(token({{"HF_HOME", root_ + "/empty"}}), "");
}

TEST_F(HubTokenTest, RefusesWhatWouldBreakAHeader) {
  for (const char* text : {"hf_a\r\nX-Evil: 1", "hf a", "hf_\xc3\xbc"}) {
    EXPECT_THROW(token({{"HF_TOKEN", text}}), Error) << text;
  }
  EXPECT_THROW(token({}, root_ + "/missing"), Error);
  EXPECT_THROW(token({{"HF_TOKEN_PATH", root_ + "/missing"}}), Error);
}

}  // namespace
}  // namespace cortex
