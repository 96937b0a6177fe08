#include "model/tokenizer_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kTokenizer = ErrorCode::invalid_tokenizer;

TEST(TokenizerFiles, GivesTheTextsAsTheyAre) {
  const TemporaryModel folder("llama");
  const Model model = folder.open();
  EXPECT_EQ(std::get<TokenizerJson>(model.tokenizer).text, folder.read("tokenizer.json"));
  EXPECT_EQ(model.chat_template, folder.read("chat_template.jinja"));
  EXPECT_EQ(model.special_tokens.at("bos_token"), "<|endoftext|>");
  EXPECT_EQ(model.special_tokens.at("eos_token"), "<|im_end|>");
  EXPECT_EQ(model.special_tokens.at("pad_token"), "<|endoftext|>");
  EXPECT_FALSE(model.special_tokens.contains("unk_token"));
}

TEST(TokenizerFiles, ATemplateFileWinsOverTheConfiguration) {
  const TemporaryModel folder("llama");
  folder.replace("tokenizer_config.json", "{", R"({"chat_template": "configured",)");
  EXPECT_EQ(folder.open().chat_template, folder.read("chat_template.jinja"));
  folder.remove("chat_template.jinja");
  EXPECT_EQ(folder.open().chat_template, "configured");
  folder.replace("tokenizer_config.json", R"("configured")",
                 R"([{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}])");
  EXPECT_EQ(folder.open().chat_template, "d");
  folder.replace("tokenizer_config.json", "default", "other");
  EXPECT_EQ(folder.open().chat_template, std::nullopt);
  folder.write("tokenizer_config.json", R"({"chat_template": 7})");
  expect_error(kTokenizer, {"tokenizer_config.json: chat_template: 7"}, [&] { folder.open(); });
}

TEST(TokenizerFiles, SpecialTokensMayBeObjects) {
  const TemporaryModel folder("llama");
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<|im_start|>", "lstrip": false}, "eos_token": null})");
  const Model model = folder.open();
  EXPECT_EQ(model.special_tokens.at("bos_token"), "<|im_start|>");
  EXPECT_FALSE(model.special_tokens.contains("eos_token"));
  folder.write("tokenizer_config.json", R"({"bos_token": {"text": "x"}})");
  expect_error(kTokenizer, {"tokenizer_config.json: bos_token.content: is missing"}, [&] { folder.open(); });
}

TEST(TokenizerFiles, JoinsTheIdsThatEndATurn) {
  const TemporaryModel folder("llama");
  EXPECT_THAT(folder.open().stop_ids, ElementsAre(2));
  folder.write("generation_config.json", R"({"eos_token_id": [7, 5, 7]})");
  EXPECT_THAT(folder.open().stop_ids, ElementsAre(2, 5, 7));
  folder.replace("tokenizer_config.json", "<|im_end|>", "<|endoftext|>");
  folder.replace("config.json", "\"eos_token_id\": 2", "\"eos_token_id\": null");
  EXPECT_THAT(folder.open().stop_ids, ElementsAre(0, 5, 7));
}

TEST(TokenizerFiles, FindsTheEosTokenInTheVocabularyToo) {
  const TemporaryModel folder("llama");
  folder.write("tokenizer.json", R"({"added_tokens": [{"id": 9, "content": "x"}], "model": {"vocab": {"</s>": 12}}})");
  folder.replace("tokenizer_config.json", "<|im_end|>", "</s>");
  EXPECT_THAT(folder.open().stop_ids, ElementsAre(2, 12));
  folder.replace("tokenizer_config.json", "</s>", "</x>");
  expect_error(kTokenizer, {"eos_token: \"</x>\" is not in tokenizer.json"}, [&] { folder.open(); });
  folder.replace("tokenizer_config.json", "</x>", "</s>");
  folder.replace("tokenizer.json", "12", "484");
  expect_error(kTokenizer, {"tokenizer.json", "\"</s>\"", "id 484", "0 to 483"}, [&] { folder.open(); });
}

TEST(TokenizerFiles, StopIdsAreInTheVocabulary) {
  const TemporaryModel folder("llama");
  for (const char* id : {"484", "-1", "[2, 1.5]", "\"2\""}) {
    folder.write("generation_config.json", std::string("{\"eos_token_id\": ") + id + "}");
    expect_error(ErrorCode::invalid_config, {"generation_config.json: eos_token_id", "from 0 to 483"},
                 [&] { folder.open(); });
  }
}

TEST(TokenizerFiles, RefusesABrokenTokenizer) {
  const TemporaryModel folder("llama");
  const std::string whole = folder.read("tokenizer.json");
  folder.write("tokenizer.json", whole.substr(0, whole.size() / 2));
  expect_error(kTokenizer, {"tokenizer.json: is not valid JSON"}, [&] { folder.open(); });
  folder.write("tokenizer.json", std::string(1000000, '['));
  expect_error(kTokenizer, {"tokenizer.json"}, [&] { folder.open(); });
  std::filesystem::resize_file(folder.path() / "tokenizer.json", (64u << 20) + 1);
  expect_error(kTokenizer, {"tokenizer.json: 67108865 bytes exceed the limit of 67108864"}, [&] { folder.open(); });
  folder.remove("tokenizer.json");
  expect_error(kTokenizer, {"tokenizer.json: is missing"}, [&] { folder.open(); });
}

}  // namespace
}  // namespace cortex
