#include "service/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/temporary_folder.h"
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

ModelConfig config(const char* model, std::optional<ModelKind> kind = std::nullopt) {
  return {"m", test_data(std::string("models/") + model).string(), kind};
}

TEST(Models, TheKindIsTheFilesOrTheOptions) {
  struct Case {
    const char* model;
    std::optional<ModelKind> asked;
    ModelKind kind;
    std::optional<RerankBy> rerank;
    const char* capabilities;
  };
  const Case cases[] = {
      {"llama", {}, ModelKind::chat, {}, "chat and complete"},
      {"bert-mean", {}, ModelKind::embed, RerankBy::cosine, "embed and rerank"},
      {"bert-mean", ModelKind::rerank, ModelKind::rerank, RerankBy::cosine, "rerank"},
      {"bert-reranker", {}, ModelKind::rerank, RerankBy::head, "rerank"},
      {"modernbert-reranker", ModelKind::rerank, ModelKind::rerank, RerankBy::head, "rerank"},
      {"qwen3-reranker", ModelKind::rerank, ModelKind::rerank, RerankBy::generative, "rerank"},
      {"qwen3-embedding", {}, ModelKind::embed, RerankBy::cosine, "embed and rerank"},
      {"qwen3-embedding", ModelKind::rerank, ModelKind::rerank, RerankBy::cosine, "rerank"},
  };
  for (const Case& expected : cases) {
    const Models models(real_file_system(), {config(expected.model, expected.asked)});
    const ServedModel& model = models.all().at(0);
    EXPECT_EQ(model.kind, expected.kind) << expected.model;
    EXPECT_EQ(model.rerank, expected.rerank) << expected.model;
    EXPECT_EQ(model.capabilities(), expected.capabilities);
    EXPECT_EQ(model.can(Task::rerank), expected.rerank.has_value());
    EXPECT_EQ(model.can(Task::embed), expected.kind == ModelKind::embed);
    EXPECT_EQ(model.can(Task::complete), expected.kind == ModelKind::chat);
  }
  EXPECT_EQ(tiny_rerankers().find("qwen3-reranker", Task::rerank).dimensions, 0);
  const Models qwen(real_file_system(), {config("qwen3-embedding")});
  EXPECT_EQ(qwen.find(std::nullopt, Task::embed).dimensions, 64);
}

TEST(Models, AKindThatTheModelCanNotBeIsRefusedNamingBoth) {
  const std::tuple<const char*, ModelKind, const char*> cases[] = {
      {"llama", ModelKind::embed, "chat"},           {"llama", ModelKind::classify, "chat"},
      {"bert-mean", ModelKind::chat, "embed"},       {"bert-mean", ModelKind::classify, "embed"},
      {"bert-reranker", ModelKind::embed, "rerank"}, {"bert-reranker", ModelKind::chat, "rerank"}};
  for (const auto& [model, kind, files] : cases) {
    try {
      const Models models(real_file_system(), {config(model, kind)});
      ADD_FAILURE() << model;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_option);
      EXPECT_THAT(error.message(), testing::AllOf(HasSubstr(name_of(kind)), HasSubstr(files)));
    }
  }
}

TEST(Models, ADecoderWithoutTheQuestionsTokensIsNoReranker) {
  try {
    const Models models(real_file_system(), {config("mistral", ModelKind::rerank)});
    FAIL() << "is one";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_tokenizer);
    EXPECT_THAT(error.message(), testing::AllOf(HasSubstr("mistral"), HasSubstr("no ")));
  }
}

TEST(Models, ARerankerIsTheDefaultBeforeAnEmbedder) {
  const auto path = [](const char* name) { return test_data(std::string("models/") + name).string(); };
  const Models models(real_file_system(), {{"embed", path("bert-mean")}, {"head", path("bert-reranker")}});
  EXPECT_EQ(models.find(std::nullopt, Task::rerank).name, "head");
  EXPECT_EQ(models.find(std::nullopt, Task::embed).name, "embed");
}

// bert-mean with one more token in its tokenizer than the model has rows.
std::string with_token_above_the_rows(const TemporaryFolder& folder, bool special) {
  std::filesystem::copy(test_data("models/bert-mean"), folder.path() / "m", std::filesystem::copy_options::recursive);
  std::string json = folder.read("m/tokenizer.json");
  const std::string list = "\"added_tokens\": [";
  const auto at = json.find(list);
  EXPECT_NE(at, std::string::npos);
  json.insert(at + list.size(), std::string(R"({"id":257,"content":"<image>","single_word":false,"lstrip":false,)") +
                                    R"("rstrip":false,"normalized":false,"special":)" + (special ? "true" : "false") +
                                    "},");
  folder.write("m/tokenizer.json", json);
  return (folder.path() / "m").string();
}

TEST(Models, OnlySpecialTokensMayLieAboveTheModelsRows) {
  const TemporaryFolder sound, broken;
  const Models models(real_file_system(), {{"m", with_token_above_the_rows(sound, true)}});
  const Tokenizer& tokenizer = *models.all().at(0).tokenizer;
  EXPECT_EQ(tokenizer.vocabulary_size(), 258);
  EXPECT_EQ(models.all()[0].vocabulary, 257);
  EXPECT_THAT(tokenizer.encode("a <image> b", {.parse_special = false}), testing::Each(testing::Lt(257)));
  try {
    const Models refused(real_file_system(), {{"m", with_token_above_the_rows(broken, false)}});
    FAIL() << "was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_tokenizer);
    EXPECT_THAT(error.message(), testing::AllOf(HasSubstr("258"), HasSubstr("257")));
  }
}

}  // namespace
}  // namespace cortex
