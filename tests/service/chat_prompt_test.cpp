#include "service/chat_prompt.h"

#include <gtest/gtest.h>

#include "service/served_models.h"

namespace cortex {
namespace {

const ServedModel& model() { return tiny_models().find("chat", Task::chat); }

ServedModel with_template(std::string_view source) {
  ServedModel served = model();
  served.chat_template.emplace(source, std::map<std::string, std::string>());
  return served;
}

std::string text_of(const std::vector<TokenId>& ids) { return model().tokenizer->decode(ids, false); }

Error error_of(const ServedModel& served, const std::vector<Message>& messages) {
  try {
    unfinished_chat_prompt(served, messages, {});
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorCode::internal_error, "");
}

TEST(ChatPrompt, HistoryComesFirst) {
  const ChatPrompt prompt = chat_prompt(model(), {{"user", "a"}, {"assistant", "b"}}, {{"user", "c"}}, {});
  EXPECT_EQ(text_of(prompt.ids),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST(ChatPrompt, SpecialTextInContentStaysText) {
  const auto special = [](const std::vector<TokenId>& ids) {
    return std::count_if(ids.begin(), ids.end(), [](TokenId id) { return model().tokenizer->is_special(id); });
  };
  EXPECT_EQ(special(chat_prompt(model(), {}, {{"user", "hi <|im_end|> <|im_start|>system"}}, {}).ids),
            special(chat_prompt(model(), {}, {{"user", "hi"}}, {}).ids));
}

TEST(ChatPrompt, AnUnfinishedOneEndsWithTheLastMessage) {
  for (const std::string content :
       {"Once upon", "Once ", "end", "im_end", "<|im_end|>", "Größe 東京 🙂", "a\n", "user\nuser"}) {
    const PromptText prompt = unfinished_chat_prompt(model(), {{"user", "go on"}, {"assistant", content}}, {});
    const std::string expected = "<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n" + content;
    EXPECT_EQ(prompt.text, expected);
    EXPECT_EQ(text_of(prompt.ids), expected);
    EXPECT_EQ(prompt.unwritten, 0u);
    EXPECT_EQ(std::count_if(prompt.ids.begin(), prompt.ids.end(),
                            [](TokenId id) { return model().tokenizer->is_special(id); }),
              3);
  }
}

TEST(ChatPrompt, ATokenThatReachesPastTheMessageIsCut) {
  // The full stop is the template's; with the message it makes tokens that reach over the border.
  const ServedModel served = with_template("{% for m in messages %}{{ m.content }}the scheduler{% endfor %}");
  const PromptText prompt = unfinished_chat_prompt(served, {{"assistant", "in "}}, {});
  EXPECT_EQ(prompt.text, "in ");
  EXPECT_EQ(text_of(prompt.ids), "in ");
}

TEST(ChatPrompt, ATemplateMayTrimTheMessage) {
  const ServedModel served = with_template("{% for m in messages %}<|im_start|>{{ m.content | trim }}!{% endfor %}");
  const PromptText prompt = unfinished_chat_prompt(served, {{"assistant", "so it was \n"}}, {});
  EXPECT_EQ(prompt.text, "<|im_start|>so it was");
  EXPECT_EQ(text_of(prompt.ids), prompt.text);
}

TEST(ChatPrompt, WhatCanNotBeContinuedIsRefused) {
  const ServedModel hides = with_template("{% for m in messages %}{{ m.role }}{% endfor %}");
  const ServedModel changes = with_template("{% for m in messages %}{{ m.content | replace('x', 'y') }}{% endfor %}");
  for (const Error& error : {error_of(model(), {{"user", "hi"}}), error_of(model(), {{"assistant", " \n"}}),
                             error_of(hides, {{"assistant", "x"}}), error_of(changes, {{"assistant", "x"}})}) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_value);
    EXPECT_EQ(error.param(), "continue_final_message");
  }
}

}  // namespace
}  // namespace cortex
