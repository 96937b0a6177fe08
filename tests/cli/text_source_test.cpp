#include "cli/text_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TextSourceTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  std::vector<std::string> texts(const std::vector<std::string>& names, TextForm form = TextForm::lines) const {
    std::vector<std::string> paths;
    for (const auto& name : names) paths.push_back(path(name));
    TextSource source(paths, form);
    std::vector<std::string> out;
    while (auto next = source.next()) out.push_back(next->text);
    return out;
  }

  std::string message_of(ErrorCode code, const std::string& name, TextForm form = TextForm::lines) const {
    try {
      texts({name}, form);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.message();
      return error.message();
    }
    return "it was taken";
  }

  TemporaryFolder folder_;
};

TEST_F(TextSourceTest, LinesOfSeveralFiles) {
  folder_.write("a", "one\ntwo\r\n");
  folder_.write("empty", "");
  folder_.write("b", "three");
  EXPECT_THAT(texts({"a", "empty", "b"}), ElementsAre("one", "two", "three"));
}

TEST_F(TextSourceTest, WholeFiles) {
  folder_.write("a", "one\ntwo\n");
  folder_.write("b", std::string(200'000, 'x'));
  EXPECT_THAT(texts({"a", "b"}, TextForm::files), ElementsAre("one\ntwo\n", std::string(200'000, 'x')));
}

TEST_F(TextSourceTest, JsonLines) {
  folder_.write("a", "\"o\\nne\"\n{\"id\":7,\"text\":\"two\"}\n");
  EXPECT_THAT(texts({"a"}, TextForm::jsonl), ElementsAre("o\nne", "two"));
}

TEST_F(TextSourceTest, SaysWhereATextIsBad) {
  folder_.write("b", "\"one\"\n17\n");
  EXPECT_THAT(message_of(ErrorCode::invalid_value, "b", TextForm::jsonl), HasSubstr(path("b") + ":2: 17"));
  folder_.write("c", "{\"txt\":\"x\"}\n");
  EXPECT_THAT(message_of(ErrorCode::invalid_value, "c", TextForm::jsonl), HasSubstr("text"));
  folder_.write("d", "\"unfinished\n");
  EXPECT_THAT(message_of(ErrorCode::invalid_value, "d", TextForm::jsonl), HasSubstr(":1"));
  folder_.write("e", "");
  EXPECT_THAT(message_of(ErrorCode::invalid_value, "e", TextForm::files), HasSubstr("is empty"));
}

TEST_F(TextSourceTest, EmptyLinesCountAndArePassedOver) {
  folder_.write("a", "one\n\nthree\n");
  folder_.write("b", "\nfive\n");
  TextSource source({path("a"), path("b")}, TextForm::lines);
  EXPECT_EQ(source.next()->index, 0u);
  EXPECT_EQ(source.next()->index, 2u);
  const auto last = source.next();
  EXPECT_EQ(last->index, 4u);
  EXPECT_EQ(last->text, "five");
  EXPECT_FALSE(source.next());
  folder_.write("c", "\"\"\n");
  EXPECT_THAT(message_of(ErrorCode::invalid_value, "c", TextForm::jsonl), HasSubstr(path("c") + ":1: is empty"));
}

TEST_F(TextSourceTest, SaysWhatCantBeRead) {
  EXPECT_THAT(message_of(ErrorCode::invalid_path, "missing"), HasSubstr("No such file"));
  std::filesystem::create_directory(path("folder"));
  EXPECT_THAT(message_of(ErrorCode::invalid_path, "folder"), HasSubstr("is a folder"));
}

TEST_F(TextSourceTest, AFailedReadIsNoEnd) {
  for (const TextForm form : {TextForm::lines, TextForm::files}) {
    TextSource source({"/proc/self/mem"}, form);  // opens, and can't be read at 0
    try {
      source.next();
      FAIL() << "it was taken for an end";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_path);
      EXPECT_THAT(error.message(), HasSubstr("/proc/self/mem: can't be read"));
    }
  }
}

TEST_F(TextSourceTest, AnEndlessLineIsGivenUp) {
  for (const TextForm form : {TextForm::lines, TextForm::files}) {
    TextSource source({"/dev/zero"}, form);
    EXPECT_THROW(source.next(), Error);
  }
}

TEST_F(TextSourceTest, ATextIsUtf8) {
  folder_.write("a", "one\ntw\xff\n");
  EXPECT_THAT(message_of(ErrorCode::invalid_utf8, "a"), HasSubstr(path("a") + ":2: not UTF-8 at byte 2"));
  EXPECT_THAT(message_of(ErrorCode::invalid_utf8, "a", TextForm::files),
              HasSubstr(path("a") + ": not UTF-8 at byte 6"));
}

TEST_F(TextSourceTest, NothingIsNoTexts) {
  folder_.write("a", "");
  EXPECT_THAT(texts({"a"}), IsEmpty());
}

}  // namespace
}  // namespace cortex
