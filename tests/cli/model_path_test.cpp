#include "cli/model_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kCommit(40, 'a');

class ModelPathTest : public testing::Test {
 protected:
  ModelConfig parse(const std::string& text) const { return parse_model(real_file_system(), places_, text); }

  std::string message_of(ErrorCode code, const std::string& text) const {
    try {
      parse(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.message();
      return error.message();
    }
    return "it was taken";
  }

  TemporaryFolder folder_;
  ModelPlaces places_{folder_.path() / "hub", folder_.path() / "packaged"};
  const std::string root_ = folder_.path().string();
};

TEST_F(ModelPathTest, AFileIsItself) {
  folder_.write("tiny-Q4_0.gguf", "x");
  EXPECT_EQ(parse("chat=" + root_ + "/tiny-Q4_0.gguf").path, root_ + "/tiny-Q4_0.gguf");
  EXPECT_EQ(parse("chat=" + root_ + "/tiny-Q4_0.gguf").name, "chat");
  EXPECT_EQ(parse(root_ + "/tiny-Q4_0.gguf").name, "tiny-Q4_0");
}

TEST_F(ModelPathTest, AFolderIsNamedAfterItself) {
  folder_.write("minilm/config.json", "{}");
  EXPECT_EQ(parse(root_ + "/minilm").name, "minilm");
  EXPECT_EQ(parse(root_ + "/minilm/").name, "minilm");
  EXPECT_EQ(parse(root_ + "/minilm/.").name, "minilm");
  EXPECT_EQ(parse(root_ + "/minilm").path, root_ + "/minilm");
}

TEST_F(ModelPathTest, AFolderWithOneGgufMeansIt) {
  folder_.write("tiny/a.gguf", "x");
  EXPECT_EQ(parse(root_ + "/tiny").path, root_ + "/tiny/a.gguf");
  EXPECT_EQ(parse(root_ + "/tiny").name, "tiny");
  folder_.write("tiny/b.gguf", "x");
  EXPECT_THAT(message_of(ErrorCode::invalid_path, root_ + "/tiny"), HasSubstr("a.gguf, b.gguf"));
}

TEST_F(ModelPathTest, AModelInSeveralPartsIsRefused) {
  folder_.write("big/big-00001-of-00002.gguf", "x");
  folder_.write("big/big-00002-of-00002.gguf", "x");
  EXPECT_THAT(message_of(ErrorCode::invalid_path, root_ + "/big"), HasSubstr("in several parts"));
  folder_.write("hub/models--acme--big/refs/main", kCommit);
  folder_.write("hub/models--acme--big/snapshots/" + kCommit + "/Q8_0/big-Q8_0-00001-of-00002.gguf", "x");
  for (const char* text : {"acme/big", "acme/big:Q8_0"}) {
    EXPECT_THAT(message_of(ErrorCode::invalid_path, text), HasSubstr("in several parts")) << text;
  }
  folder_.write("big/small.gguf", "x");
  EXPECT_EQ(parse(root_ + "/big").path, root_ + "/big/small.gguf");
}

TEST_F(ModelPathTest, ALoopOfLinksIsNotFollowed) {
  folder_.write("looped/a.gguf", "x");
  std::filesystem::create_symlink(".", folder_.path() / "looped/again");
  EXPECT_EQ(parse(root_ + "/looped").path, root_ + "/looped/a.gguf");
}

TEST_F(ModelPathTest, AHubNameIsFoundInItsCache) {
  folder_.write("hub/models--acme--tiny/refs/main", kCommit);
  folder_.write("hub/models--acme--tiny/snapshots/" + kCommit + "/tiny-Q8_0.gguf", "x");
  const std::string path = root_ + "/hub/models--acme--tiny/snapshots/" + kCommit + "/tiny-Q8_0.gguf";
  for (const char* text : {"acme/tiny", "acme/tiny:Q8_0", "acme/tiny:tiny-Q8_0.gguf"}) {
    EXPECT_EQ(parse(text).path, path) << text;
    EXPECT_EQ(parse(text).name, "tiny") << text;
  }
  EXPECT_EQ(parse("acme/tiny@" + kCommit).name, "tiny");
  // What `cortex pull` prints.
  EXPECT_EQ(parse(path).name, "tiny");
  EXPECT_EQ(parse("t=acme/tiny").name, "t");
}

TEST_F(ModelPathTest, WhatIsMissingSaysHowToFetchIt) {
  EXPECT_THAT(message_of(ErrorCode::invalid_path, "acme/huge:Q4_0"),
              AllOf(HasSubstr("`cortex pull acme/huge:Q4_0`"), HasSubstr(root_ + "/hub")));
  EXPECT_THAT(message_of(ErrorCode::invalid_path, "smollm2"), HasSubstr("`cortex pull smollm2`"));
  EXPECT_THAT(message_of(ErrorCode::invalid_path, "/nonexistent/x.gguf"), HasSubstr("no such file"));
}

TEST_F(ModelPathTest, APackagedModelHasAName) {
  folder_.write("packaged/SmolLM2-135M-Instruct.Q4_1.gguf", "x");
  EXPECT_EQ(parse("smollm2").path, root_ + "/packaged/SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(parse("smollm2").name, "smollm2");
}

TEST_F(ModelPathTest, AKindMayFollow) {
  folder_.write("a.gguf", "x");
  EXPECT_EQ(parse("r=" + root_ + "/a.gguf,kind=rerank").kind, ModelKind::rerank);
  EXPECT_EQ(parse(root_ + "/a.gguf,kind=embed").kind, ModelKind::embed);
  EXPECT_EQ(parse(root_ + "/a.gguf,kind=embed").name, "a");
  EXPECT_EQ(parse(root_ + "/a.gguf").kind, std::nullopt);
  EXPECT_THAT(message_of(ErrorCode::invalid_option, root_ + "/a.gguf,kind=sing"),
              AllOf(HasSubstr("\"sing\""), HasSubstr("chat, embed, rerank, classify")));
}

TEST_F(ModelPathTest, APathMayHoldASignOfEquality) {
  folder_.write("a=b.gguf", "x");
  EXPECT_EQ(parse("n=" + root_ + "/a=b.gguf").path, root_ + "/a=b.gguf");
}

TEST_F(ModelPathTest, RefusesWhatIsIncomplete) {
  for (const char* text : {"", "=", "name=", "=/x", ",kind=chat"}) {
    EXPECT_THAT(message_of(ErrorCode::invalid_option, text), HasSubstr("NAME=PATH")) << text;
  }
}

}  // namespace
}  // namespace cortex
