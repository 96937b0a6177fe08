#include "service/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/served_models.h"

namespace cortex {
namespace {

using testing::HasSubstr;

ErrorCode code_of_find(const std::optional<std::string>& name, Task task, std::string* message = nullptr) {
  try {
    tiny_models().find(name, task);
  } catch (const Error& error) {
    if (message) *message = error.message();
    return error.code();
  }
  ADD_FAILURE() << "was found";
  return ErrorCode::internal_error;
}

TEST(Models, TheFirstOfItsKindIsTheDefault) {
  EXPECT_EQ(tiny_models().find(std::nullopt, Task::chat).name, "chat");
  EXPECT_EQ(tiny_models().find(std::nullopt, Task::embed).name, "embed");
  EXPECT_EQ(tiny_models().find(std::nullopt, Task::rerank).name, "embed");
}

TEST(Models, SayWhatTheFilesSay) {
  const ServedModel& chat = tiny_models().find("chat", Task::chat);
  EXPECT_EQ(chat.kind, ModelKind::chat);
  EXPECT_EQ(chat.context_tokens, 512);
  EXPECT_EQ(chat.vocabulary, 484);
  EXPECT_THAT(chat.stop_ids, testing::Contains(2));
  const ServedModel& embed = tiny_models().find("embed", Task::embed);
  EXPECT_EQ(embed.kind, ModelKind::embed);
  EXPECT_EQ(embed.dimensions, 64);
}

TEST(Models, UnknownIsNotFound) {
  std::string message;
  EXPECT_EQ(code_of_find("nobody", Task::chat, &message), ErrorCode::model_not_found);
  EXPECT_THAT(message, HasSubstr("nobody"));
}

TEST(Models, TheWrongKindIsNotCapableAndSaysWhatItCan) {
  std::string message;
  EXPECT_EQ(code_of_find("embed", Task::chat, &message), ErrorCode::model_not_capable);
  EXPECT_THAT(message, HasSubstr("embed and rerank"));
  EXPECT_EQ(code_of_find("chat", Task::embed), ErrorCode::model_not_capable);
  EXPECT_EQ(code_of_find("chat", Task::rerank), ErrorCode::model_not_capable);
}

TEST(Models, WhatIsNoNameIsAnInvalidValue) {
  for (const char* name : {"", "../x", "a/b/c", "http://a", "a..b", "-a", ".a", "a/", "a b"}) {
    EXPECT_EQ(code_of_find(name, Task::chat), ErrorCode::invalid_value) << name;
  }
  EXPECT_EQ(code_of_find(std::string(300, 'a'), Task::chat), ErrorCode::invalid_value);
}

TEST(Models, NamesMayHaveOneSlash) {
  EXPECT_TRUE(is_model_name("org/model-1.5_b"));
  EXPECT_TRUE(is_model_name("a"));
  EXPECT_TRUE(is_model_name(std::string(96, 'a')));
  EXPECT_FALSE(is_model_name(std::string(97, 'a')));
}

TEST(Models, AModelThatIsNotThereIsRefusedAtStart) {
  EXPECT_THROW(Models(real_file_system(), {{"m", "/no/such/model"}}), Error);
  const std::string path = test_data("models/llama").string();
  EXPECT_THROW(Models(real_file_system(), {{"m", path}, {"m", path}}), Error);
  EXPECT_THROW(Models(real_file_system(), {{"../m", path}}), Error);
}

}  // namespace
}  // namespace cortex
