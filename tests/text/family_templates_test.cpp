// The chat templates of the model families, as Python's Jinja renders them: tools/render_templates.py.
#include <gtest/gtest.h>

#include <ctime>

#include "base/error.h"
#include "model/json_file.h"
#include "text/chat_template.h"
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

std::string render(const ChatTemplate& chat_template, const Fields& conversation) {
  ChatTemplateOptions options;
  options.add_generation_prompt = *conversation.find_boolean("add_generation_prompt");
  options.arguments_json = conversation.text("arguments");
  if (const auto* tools = conversation.find_text("tools")) options.tools_json = *tools;
  try {
    return chat_template.render(conversation.text("messages"), options);
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
