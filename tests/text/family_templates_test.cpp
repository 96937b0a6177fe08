// The chat templates of the model families, as Python's Jinja renders them: tools/render_templates.py.
#include <gtest/gtest.h>

#include <ctime>

#include "base/error.h"
#include "model/json_file.h"
#include "text/chat_template.h"
#include "text/goldens.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

const Fields& object(const Value& value) { return **value.as<Value::Object>(); }

const Fields& rendered() {
  static const std::string file = "templates/rendered.json";
  static const Fields all = parse_json_object(read_data(file), file, ErrorCode::invalid_config);
  return all;
}

ChatTemplate family_template(const std::string& name) {
  std::map<std::string, std::string> tokens;
  const Fields& family = *rendered().find_object("templates")->find_object(name);
  for (const auto& [token, text] : family.find_object("special_tokens")->entries()) {
    tokens[token] = *text.as<std::string>();
  }
  return {read_data("templates/" + name + ".jinja"), tokens};
}

ChatTemplateOptions options_of(const Fields& conversation) {
  ChatTemplateOptions options;
  options.add_generation_prompt = *conversation.find_boolean("add_generation_prompt");
  options.arguments_json = conversation.text("arguments");
  if (const auto* tools = conversation.find_text("tools")) options.tools_json = *tools;
  return options;
}

std::string render(const ChatTemplate& chat_template, const Fields& conversation) {
  try {
    return chat_template.render(conversation.text("messages"), options_of(conversation));
  } catch (const Error& error) {
    return "raises " + error.message();
  }
}

class FamilyTemplate : public testing::TestWithParam<const char*> {};

TEST_P(FamilyTemplate, RendersAsInPython) {
  const ChatTemplate chat_template = family_template(GetParam());
  const Fields& conversations = *rendered().find_object("conversations");
  const Fields& family = *rendered().find_object("templates")->find_object(GetParam());
  const auto& texts = family.find_object("texts")->entries();
  EXPECT_GE(texts.size(), 11U);
  for (const auto& [title, text] : texts) {
    const std::string expected =
        text.as<std::string>() ? *text.as<std::string>() : "raises chat template: " + object(text).text("raises");
    EXPECT_EQ(render(chat_template, *conversations.find_object(title)), expected) << title;
  }
}

INSTANTIATE_TEST_SUITE_P(ChatTemplate, FamilyTemplate,
                         testing::Values("gemma-3", "llama-3.1", "llama-3.2", "mistral-v0.3", "phi-3", "qwen2.5",
                                         "qwen3", "smollm2"));

TEST_P(FamilyTemplate, RendersALongChat) {
  std::string messages = R"([{"role":"user","content":"hi"})";
  for (int i = 1; i < 2048; ++i) {
    messages += std::string(R"(,{"role":")") + (i % 2 == 0 ? "user" : "assistant") + R"(","content":"Words in turn."})";
  }
  const std::string text = family_template(GetParam()).render(messages + "]");
  EXPECT_GT(text.size(), 2048U * 14);
}

struct FamilyVocabulary {
  const char* name;  // of the template
  std::filesystem::path (*path)();
};

class FamilyPrompt : public testing::TestWithParam<FamilyVocabulary> {};

TEST_P(FamilyPrompt, IsEncodedAsItReads) {
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(read_vocabulary(GetParam().path()));
  const ChatTemplate chat_template = family_template(GetParam().name);
  const Fields& family = *rendered().find_object("templates")->find_object(GetParam().name);
  for (const auto& [title, text] : family.find_object("texts")->entries()) {
    if (!text.as<std::string>()) continue;
    const Fields& conversation = *rendered().find_object("conversations")->find_object(title);
    const ChatPrompt prompt =
        encode_chat_prompt(tokenizer, chat_template, conversation.text("messages"), options_of(conversation));
    EXPECT_EQ(prompt.text, *text.as<std::string>()) << title;
    EXPECT_EQ(prompt.ids, tokenizer.encode(prompt.text, {.add_special_tokens = false, .parse_special = true})) << title;
  }
}

INSTANTIATE_TEST_SUITE_P(
    ChatTemplate, FamilyPrompt,
    testing::Values(FamilyVocabulary{"gemma-3", [] { return default_model("gemma-3-270m-q4_k_m.gguf"); }},
                    FamilyVocabulary{"llama-3.1", [] { return ggml_vocabulary("llama-bpe"); }},
                    FamilyVocabulary{"mistral-v0.3", [] { return ggml_vocabulary("llama-spm"); }},
                    FamilyVocabulary{"phi-3", [] { return ggml_vocabulary("phi-3"); }},
                    FamilyVocabulary{"qwen3", [] { return ggml_vocabulary("qwen2"); }},
                    FamilyVocabulary{"smollm2", [] { return default_model("SmolLM2-135M-Instruct.Q4_1.gguf"); }}),
    [](const auto& info) { return std::to_string(info.index); });

class FamilyIds : public testing::TestWithParam<const char*> {};

TEST_P(FamilyIds, AreThoseOfPython) {
  const auto tokenizer = llama_tokenizer();
  const ChatTemplate chat_template = family_template(GetParam());
  const Fields& family = *rendered().find_object("templates")->find_object(GetParam());
  const auto& ids = family.find_object("ids")->entries();
  EXPECT_GE(ids.size(), 11U);
  for (const auto& [title, expected] : ids) {
    const Fields& conversation = *rendered().find_object("conversations")->find_object(title);
    EXPECT_EQ(encode_chat(*tokenizer, chat_template, conversation.text("messages"), options_of(conversation)),
              rows_of_ids(*expected.as<std::string>()).at(0))
        << title;
  }
}

INSTANTIATE_TEST_SUITE_P(ChatTemplate, FamilyIds, testing::Values("qwen2.5", "qwen3", "smollm2"));

TEST(ChatTemplate, Llama32TellsTheDay) {
  const std::string text = family_template("llama-3.2").render(R"([{"role":"user","content":"hi"}])");
  const std::time_t now = std::time(nullptr);
  bool has_day = false;
  for (const std::time_t day : {now, now - 60}) {
    char date[16];
    std::strftime(date, sizeof(date), "%d %b %Y", std::localtime(&day));
    has_day |= text.find(std::string("Today Date: ") + date + "\n") != std::string::npos;
  }
  EXPECT_TRUE(has_day) << text;
}

}  // namespace
}  // namespace cortex
