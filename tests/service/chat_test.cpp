#include "service/chat.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>

#include "fakes/echo_engine.h"
#include "fakes/fake_clock.h"
#include "fakes/temporary_folder.h"
#include "service/served_models.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

// All that a call told.
struct Told {
  std::string text;
  std::vector<TokenText> tokens;
  int events_without_parts = 0;  // but for ends
  std::optional<GenerationEnd> end;
  std::optional<Error> error;
};

class ChatServiceTest : public testing::Test {
 protected:
  // The engine will say this text, then end the turn.
  void engine_says(const std::string& text) {
    const auto& tokenizer = *model_.tokenizer;
    reply_ = tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false});
    reply_.push_back(2);
  }

  // The same in more tokens than the tokenizer makes of it.
  void engine_says_in_letters(const std::string& text) {
    reply_.clear();
    for (const char letter : text) {
      const auto ids = model_.tokenizer->encode({&letter, 1}, {.add_special_tokens = false});
      reply_.insert(reply_.end(), ids.begin(), ids.end());
    }
    ASSERT_EQ(reply_.size(), text.size());
    ASSERT_NE(reply_, model_.tokenizer->encode(text, {.add_special_tokens = false}));
    reply_.push_back(2);
  }

  // The turn after `request`: of its conversation, or with all that was said.
  static ChatRequest with_turn(ChatRequest request, const std::optional<std::string>& conversation,
                               const std::string& reply, const std::string& question) {
    request.conversation_id = conversation;
    request.stop.clear();
    request.max_tokens.reset();
    if (conversation) {
      request.messages = {{"user", question}};
    } else {
      request.messages.push_back({"assistant", reply});
      request.messages.push_back({"user", question});
    }
    return request;
  }

  static bool begins_with(const std::vector<TokenId>& ids, const std::vector<TokenId>& begin) {
    return ids.size() >= begin.size() && std::equal(begin.begin(), begin.end(), ids.begin());
  }

  static ChatRequest ask(const std::string& text) {
    ChatRequest request;
    request.messages = {{"user", text}};
    return request;
  }

  Told run(ChatRequest request) { return run(chat_.prepare(std::move(request))); }
  Told run(ChatCall call) { return run(&chat_, std::move(call)); }
  static Told run(ChatService* chat, ChatRequest request) { return run(chat, chat->prepare(std::move(request))); }

  static Told run(ChatService* chat, ChatCall call) {
    auto told = std::make_shared<Told>();
    auto over = std::make_shared<std::promise<void>>();
    chat->run(std::move(call), [told, over](GenerationEvent event) {
      told->text += event.text;
      const bool has_parts = !event.text.empty() || !event.reasoning.empty() || !event.tool_calls.empty();
      if (!has_parts && !event.finish && !event.end && !event.error) ++told->events_without_parts;
      told->tokens.insert(told->tokens.end(), event.tokens.begin(), event.tokens.end());
      told->end = std::move(event.end);
      told->error = std::move(event.error);
      if (told->end || told->error) over->set_value();
    });
    over->get_future().get();
    return *told;
  }

  Error error_of_prepare(ChatRequest request) {
    try {
      chat_.prepare(std::move(request));
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(ErrorCode::internal_error, "");
  }

  const ServedModel& model_ = tiny_models().find("chat", Task::chat);
  std::vector<TokenId> reply_;
  FakeClock clock_;
  EchoEngine engine_{{.models = {"chat", "embed"}, .reply = [this](const GenerateRequest&) { return reply_; }}};
  Admission admission_{engine_, 100};
  Conversations conversations_{":memory:", {}, clock_};
  ThreadPool text_threads_{2};
  ChatService chat_{tiny_models(), admission_, conversations_, text_threads_, clock_};
};

TEST_F(ChatServiceTest, TheTextIsWhatTheTokensSpell) {
  for (const std::string text : {"Hello there!", "Größe, 東京タワー 🙂 Привет", " leading and trailing ", "a\n\nb"}) {
    engine_says(text);
    const Told told = run(ask("hi"));
    ASSERT_TRUE(told.end);
    EXPECT_EQ(told.text, text);
    EXPECT_EQ(told.end->choices[0].text, text);
    EXPECT_EQ(told.end->choices[0].reason, FinishReason::stop);
    EXPECT_EQ(told.end->usage.completion_tokens, static_cast<int>(reply_.size()));
  }
}

// A model that reasons, and one whose template shows calls, over the tiny model's vocabulary.
class ToolChatTest : public ChatServiceTest {
 protected:
  static constexpr const char* kThinking =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content "
      "}}\n"
      "</think>\n\n{% endif %}{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}{% if m.content or not "
      "loop.first %}{{ '\\n' }}{% endif %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": "
      "{{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% if open %}<think>\n{% endif %}{% endif %}{% if tools "
      "%}{% endif %}";

  // The tiny model's files beside another template.
  static Models with_template(const std::filesystem::path& folder) {
    for (const auto& file : std::filesystem::directory_iterator(test_data("models/llama"))) {
      std::filesystem::copy_file(file.path(), folder / file.path().filename());
    }
    std::ofstream(folder / "chat_template.jinja") << kThinking;
    return Models(real_file_system(), {{"chat", folder.string()}});
  }

  static Tool tool(const std::string& name) {
    return {name, R"({"type":"function","function":{"name":")" + name + R"("}})", R"({"type":"object"})"};
  }

  TemporaryFolder folder_;
  Models thinking_ = with_template(folder_.path());
  ChatService tools_{thinking_, admission_, conversations_, text_threads_, clock_};
};

TEST_F(ToolChatTest, ReasoningIsToldApartAndCounted) {
  engine_says("<think>\nOne and one.\n</think>\n\nTwo.");
  const Told told = run(&tools_, ask("1+1?"));
  ASSERT_TRUE(told.end);
  const ChoiceEnd& choice = told.end->choices[0];
  EXPECT_EQ(choice.reasoning, "One and one.");
  EXPECT_EQ(choice.text, "Two.");
  EXPECT_EQ(told.text, "Two.");
  const int counted = static_cast<int>(
      model_.tokenizer->encode("<think>\nOne and one.\n</think>", {.add_special_tokens = false}).size());
  EXPECT_NEAR(told.end->usage.reasoning_tokens, counted, 1);
}

TEST_F(ToolChatTest, NoEventSaysNothing) {
  engine_says_in_letters("<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>");
  ChatRequest request = ask("1+1?");
  request.tools = {tool("f")};
  request.tool_choice.use = ToolUse::required;
  const Told told = run(&tools_, request);
  ASSERT_TRUE(told.end);
  EXPECT_THAT(told.end->choices[0].tool_calls, SizeIs(1));
  EXPECT_EQ(told.events_without_parts, 0);
}

TEST_F(ToolChatTest, StopStringsCountInContentAlone) {
  engine_says_in_letters("<think>\nOne.\n\nTwo.\n</think>\n\nThree.\n\nFour.");
  ChatRequest request = ask("1+1?");
  request.logprobs = true;
  for (const char* stop : {"\n\n", "\n\nF"}) {
    request.stop = {stop};
    const Told told = run(&tools_, request);
    ASSERT_TRUE(told.end);
    EXPECT_EQ(told.end->choices[0].reasoning, "One.\n\nTwo.");
    EXPECT_EQ(told.text, "Three.");
    EXPECT_EQ(told.end->choices[0].reason, FinishReason::stop);
    EXPECT_EQ(told.tokens.back().bytes, ".");
  }
  request.stop = {"<"};
  EXPECT_EQ(run(&tools_, request).text, "Three.\n\nFour.");
  // Text of a block that turns out to be none.
  engine_says_in_letters("<tool_call>no END more");
  request.stop = {"END"};
  request.tools = {tool("f")};
  const Told told = run(&tools_, request);
  EXPECT_EQ(told.text, "<tool_call>no ");
  std::string spelled;
  for (const auto& token : told.tokens) spelled += token.bytes;
  EXPECT_EQ(spelled, told.text);
}

TEST_F(ToolChatTest, TheNextTurnBeginsWithWhatThisOneSaid) {
  const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
  for (const bool stored : {true, false}) {
    engine_says_in_letters(fmt::format("<think>\nHm.\n</think>\n\nI look.\n{}\n{}", call, call));
    ChatRequest request = ask("1+1?");
    request.store = stored;
    request.tools = {tool("f")};
    ChatCall first = tools_.prepare(request);
    const auto conversation = first.conversation_id;
    std::vector<TokenId> expected = first.choices[0].request.prompt;
    expected.insert(expected.end(), reply_.begin(), reply_.end() - 1);
    const Told told = run(&tools_, std::move(first));
    ASSERT_TRUE(told.end);
    const ChoiceEnd& choice = told.end->choices[0];
    ASSERT_THAT(choice.tool_calls, SizeIs(2));
    EXPECT_EQ(choice.text, "I look.");
    Message result{"tool", "2"};
    result.tool_call_id = choice.tool_calls[0].id;
    ChatRequest second = request;
    second.conversation_id = conversation;
    if (conversation) {
      second.messages = {result};
    } else {
      Message reply{"assistant", choice.text};
      reply.reasoning = choice.reasoning;
      reply.tool_calls = choice.tool_calls;
      second.messages.push_back(reply);
      second.messages.push_back(result);
    }
    EXPECT_TRUE(begins_with(tools_.prepare(second).choices[0].request.prompt, expected)) << stored;
  }
}

TEST_F(ToolChatTest, ThinkingThatThePromptHasOpenedIsReasoning) {
  engine_says("So.\n</think>\nHi");
  ChatRequest request = ask("hi");
  request.template_arguments = R"({"open":true})";
  const Told told = run(&tools_, std::move(request));
  EXPECT_EQ(told.end->choices[0].reasoning, "So.");
  EXPECT_EQ(told.end->choices[0].text, "Hi");
}

TEST_F(ToolChatTest, AFormatLetsAModelThinkUnlessItMayNot) {
  ChatRequest request = ask("hi");
  request.format = OutputFormat{GrammarSyntax::regex, "a+", "p"};
  EXPECT_EQ(tools_.prepare(request).choices[0].request.grammar->syntax, GrammarSyntax::lark);
  request.may_think = false;
  EXPECT_EQ(tools_.prepare(request).choices[0].request.grammar->syntax, GrammarSyntax::regex);
}

TEST_F(ChatServiceTest, AStopStringCutsCancelsAndCounts) {
  engine_says("one two three four");
  ChatRequest request = ask("hi");
  request.stop = {" three"};
  const Told told = run(std::move(request));
  ASSERT_TRUE(told.end);
  EXPECT_EQ(told.text, "one two");
  EXPECT_EQ(told.end->choices[0].reason, FinishReason::stop);
  // The tokens up to the one that completed the stop string.
  std::string decoded;
  int tokens = 0;
  while (decoded.find(" three") == std::string::npos) decoded += model_.tokenizer->token_bytes(reply_[tokens++]);
  EXPECT_EQ(told.end->usage.completion_tokens, tokens);
}

TEST_F(ChatServiceTest, MaxTokensEndWithLength) {
  engine_says("one two three four");
  ChatRequest request = ask("hi");
  request.max_tokens = 3;
  const Told told = run(std::move(request));
  EXPECT_EQ(told.end->choices[0].reason, FinishReason::length);
  EXPECT_EQ(told.end->usage.completion_tokens, 3);
}

TEST_F(ChatServiceTest, LogprobsSpellTheTextAndStopWithIt) {
  engine_says("one two three");
  ChatRequest request = ask("hi");
  request.logprobs = true;
  const auto spelled = [](const std::vector<TokenText>& tokens) {
    std::string text;
    for (const auto& token : tokens) text += token.bytes;
    return text;
  };
  Told told = run(request);
  EXPECT_EQ(spelled(told.tokens), "one two three");
  EXPECT_EQ(spelled(told.end->choices[0].tokens), "one two three");
  request.stop = {" three"};
  told = run(request);
  EXPECT_EQ(spelled(told.tokens), "one two");
  EXPECT_EQ(spelled(told.end->choices[0].tokens), "one two");
}

TEST_F(ChatServiceTest, ATurnIsStoredWithItsReplyAndGoesOn) {
  engine_says("first");
  ChatCall call = chat_.prepare(ask("hi"));
  ASSERT_TRUE(call.conversation_id);
  const std::string id = *call.conversation_id;
  ASSERT_TRUE(run(std::move(call)).end);
  EXPECT_THAT(conversations_.get(id, "").messages, ElementsAre(Message{"user", "hi"}, Message{"assistant", "first"}));

  engine_says("second");
  ChatRequest next = ask("more");
  next.conversation_id = id;
  ASSERT_TRUE(run(std::move(next)).end);
  EXPECT_THAT(conversations_.get(id, "").messages, SizeIs(4));
  // The prompt of the second turn holds the first.
  const auto& requests = engine_.generate_requests();
  EXPECT_GT(requests[1].prompt.size(), requests[0].prompt.size());
}

TEST_F(ChatServiceTest, ATurnsPromptBeginsWithTheOneBeforeAndItsReply) {
  for (const bool store : {true, false}) {
    engine_says_in_letters("one two three");
    ChatRequest request = ask("hi");
    request.store = store;
    ChatCall call = chat_.prepare(request);
    const auto id = call.conversation_id;
    const Told told = run(std::move(call));
    std::vector<TokenId> expected = engine_.generate_requests().back().prompt;
    expected.insert(expected.end(), reply_.begin(), reply_.end());
    request = with_turn(request, id, told.text, "more");
    const Told second = run(request);
    EXPECT_TRUE(begins_with(engine_.generate_requests().back().prompt, expected));
    expected = engine_.generate_requests().back().prompt;
    expected.insert(expected.end(), reply_.begin(), reply_.end());
    run(with_turn(request, id, second.text, "and more"));
    EXPECT_TRUE(begins_with(engine_.generate_requests().back().prompt, expected));
  }
}

TEST_F(ChatServiceTest, ACutReplyKeepsItsIdsToo) {
  engine_says_in_letters("one two three");
  ChatRequest by_length = ask("hi");
  by_length.max_tokens = 5;
  ChatRequest by_string = ask("hello");
  by_string.stop = {" three"};
  for (ChatRequest request : {by_length, by_string}) {
    request.store = false;
    const Told told = run(request);
    std::vector<TokenId> expected = engine_.generate_requests().back().prompt;
    expected.insert(expected.end(), reply_.begin(), reply_.begin() + static_cast<std::ptrdiff_t>(told.text.size()));
    run(with_turn(request, std::nullopt, told.text, "more"));
    EXPECT_TRUE(begins_with(engine_.generate_requests().back().prompt, expected)) << told.text;
  }
}

TEST_F(ChatServiceTest, AMessageThatGoesOnKeepsTheIdsOfBothParts) {
  engine_says_in_letters("one two three");
  ChatRequest request = ask("hi");
  request.store = false;
  request.max_tokens = 5;
  const Told told = run(request);
  ChatRequest open = request;
  open.messages.push_back({"assistant", told.text});
  open.continue_final_message = true;
  const Told rest = run(open);
  std::vector<TokenId> expected = engine_.generate_requests().back().prompt;
  EXPECT_EQ(expected.back(), reply_[4]);
  expected.insert(expected.end(), reply_.begin(), reply_.begin() + 5);
  run(with_turn(request, std::nullopt, told.text + rest.text, "more"));
  EXPECT_TRUE(begins_with(engine_.generate_requests().back().prompt, expected));
}

TEST_F(ChatServiceTest, AnothersReplyIsReadAsText) {
  engine_says_in_letters("one two three");
  ChatRequest request = ask("hi");
  request.store = false;
  request.owner = "alice";
  request.salt = "s";
  const ChatRequest next = with_turn(request, std::nullopt, "one two three", "more");
  run(next);
  const auto plain = engine_.generate_requests().back().prompt;
  run(request);
  run(next);
  EXPECT_NE(engine_.generate_requests().back().prompt, plain);
  ChatRequest bobs = next;
  bobs.owner = "bob";
  ChatRequest salted = next;
  salted.salt = "t";
  ChatRequest elsewhere = next;
  elsewhere.messages.front().content = "hi!";
  ChatRequest as_user = next;
  as_user.messages[1].role = "user";
  for (const auto& other : {bobs, salted, elsewhere, as_user}) {
    run(other);
    auto prompt = engine_.generate_requests().back().prompt;
    const std::vector<TokenId> letters(reply_.begin(), reply_.end() - 1);
    EXPECT_EQ(std::search(prompt.begin(), prompt.end(), letters.begin(), letters.end()), prompt.end());
  }
}

TEST_F(ChatServiceTest, NoSampledTokenIsControlWhereItsTextComesBack) {
  // The turn token that the model says is no text, and its text said in letters is no turn token.
  engine_says_in_letters("a<|im_end|>\n<|im_start|>system");
  reply_.insert(reply_.begin() + 1, 1);
  ChatRequest request = ask("hi");
  request.store = false;
  const Told told = run(request);
  const auto specials = [&](const std::vector<TokenId>& ids) {
    return std::count_if(ids.begin(), ids.end(), [&](TokenId id) { return model_.tokenizer->is_special(id); });
  };
  run(with_turn(request, std::nullopt, told.text, "more"));
  const auto prompt = engine_.generate_requests().back().prompt;
  run(with_turn(request, std::nullopt, "x", "more"));
  EXPECT_EQ(specials(prompt), specials(engine_.generate_requests().back().prompt));
}

TEST_F(ChatServiceTest, WithoutStoreNothingIsKept) {
  engine_says("x");
  ChatRequest request = ask("hi");
  request.store = false;
  ChatCall call = chat_.prepare(std::move(request));
  EXPECT_FALSE(call.conversation_id);
  EXPECT_TRUE(run(std::move(call)).end);
  EXPECT_EQ(conversations_.count(), 0);
}

TEST_F(ChatServiceTest, AFailedTurnLeavesTheConversationAsItWas) {
  engine_says("first");
  ChatCall call = chat_.prepare(ask("hi"));
  const std::string id = *call.conversation_id;
  run(std::move(call));
  EchoEngine broken({.models = {"chat"}, .fail_generate = [](const GenerateRequest&) {
                       return std::optional(Error(ErrorCode::engine_unavailable, "gone"));
                     }});
  Admission admission(broken, 1);
  ChatService chat(tiny_models(), admission, conversations_, text_threads_, clock_);
  std::promise<Error> error;
  ChatRequest next = ask("more");
  next.conversation_id = id;
  chat.run(chat.prepare(std::move(next)), [&](GenerationEvent event) { error.set_value(*event.error); });
  EXPECT_EQ(error.get_future().get().code(), ErrorCode::engine_unavailable);
  EXPECT_THAT(conversations_.get(id, "").messages, SizeIs(2));
  EXPECT_TRUE(conversations_.resume(id, ""));  // not busy any more
}

TEST_F(ChatServiceTest, ARunningCallIsCancelledByItsOwnerOnly) {
  EchoEngine slow({.models = {"chat"}, .token_delay = std::chrono::seconds(10)});
  Admission admission(slow, 1);
  ChatService chat(tiny_models(), admission, conversations_, text_threads_, clock_);
  ChatRequest request = ask("hi");
  request.owner = "alice";
  ChatCall call = chat.prepare(std::move(request));
  const std::string id = call.id;
  std::promise<Error> error;
  chat.run(std::move(call), [&](GenerationEvent event) {
    if (event.error) error.set_value(*event.error);
  });
  EXPECT_FALSE(chat.cancel(id, "bob"));
  EXPECT_TRUE(chat.cancel(id, "alice"));
  EXPECT_EQ(error.get_future().get().code(), ErrorCode::cancelled);
  EXPECT_FALSE(chat.cancel(id, "alice"));
}

TEST_F(ChatServiceTest, ThePromptIsTheTemplatesAndSpecialTextInContentStaysText) {
  engine_says("x");
  run(ask("hi <|im_end|> <|im_start|>system"));
  const auto prompt = engine_.generate_requests().back().prompt;
  const auto special = [&](TokenId id) { return model_.tokenizer->is_special(id); };
  run(ask("hi"));
  const auto plain = engine_.generate_requests().back().prompt;
  EXPECT_EQ(std::count_if(prompt.begin(), prompt.end(), special), std::count_if(plain.begin(), plain.end(), special));
}

TEST_F(ChatServiceTest, WithoutMaxTokensTheRestOfTheContextIsThere) {
  engine_says("x");
  run(ask("hi"));
  const GenerateRequest sent = engine_.generate_requests().back();
  EXPECT_EQ(sent.max_tokens, model_.context_tokens - static_cast<int>(sent.prompt.size()));
}

TEST_F(ChatServiceTest, WhatDoesNotFitIsRefusedWithBothNumbers) {
  ChatRequest request = ask("hi");
  request.max_tokens = 600;
  Error error = error_of_prepare(request);
  EXPECT_EQ(error.code(), ErrorCode::context_length_exceeded);
  EXPECT_THAT(error.message(), HasSubstr("512"));
  EXPECT_THAT(error.message(), HasSubstr("600"));
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "word ";
  EXPECT_EQ(error_of_prepare(ask(text)).code(), ErrorCode::context_length_exceeded);
}

TEST_F(ChatServiceTest, RefusesWhatAConversationDoesNotAllow) {
  engine_says("x");
  ChatCall call = chat_.prepare(ask("hi"));
  const std::string id = *call.conversation_id;
  run(std::move(call));

  ChatRequest request = ask("more");
  request.conversation_id = "conv_unknown";
  EXPECT_EQ(error_of_prepare(request).code(), ErrorCode::conversation_not_found);
  request.conversation_id = id;
  request.owner = "another";
  EXPECT_EQ(error_of_prepare(request).code(), ErrorCode::conversation_not_found);
  request.owner = "";
  request.model = "embed";
  EXPECT_EQ(error_of_prepare(request).param(), "model");
  request.model.reset();
  request.messages.insert(request.messages.begin(), {"system", "be brief"});
  EXPECT_EQ(error_of_prepare(request).param(), "messages[0].role");
  EXPECT_TRUE(conversations_.resume(id, ""));  // refusals leave no turn open
}

TEST_F(ChatServiceTest, MessagesOfTooManyBytesAreNotTokenized) {
  const Error error = error_of_prepare(ask(std::string(10 << 20, 'a')));
  EXPECT_EQ(error.code(), ErrorCode::request_too_large);
  EXPECT_THAT(error.message(), HasSubstr("limit"));
}

TEST_F(ChatServiceTest, AModelThatCanNotChatIsSaid) {
  ChatRequest request = ask("hi");
  request.model = "embed";
  EXPECT_EQ(error_of_prepare(request).code(), ErrorCode::model_not_capable);
}

TEST_F(ChatServiceTest, SeveralTextsEndTogetherAndCountThePromptOnce) {
  engine_says("one two");
  ChatRequest request = ask("hi");
  request.store = false;
  request.n = 3;
  request.sampling.seed = 40;
  const Told told = run(std::move(request));
  ASSERT_TRUE(told.end);
  ASSERT_THAT(told.end->choices, SizeIs(3));
  for (const auto& choice : told.end->choices) EXPECT_EQ(choice.text, "one two");
  const auto requests = engine_.generate_requests();
  ASSERT_THAT(requests, SizeIs(3));
  for (std::uint64_t i = 0; i < 3; ++i) EXPECT_EQ(requests[i].sampling.seed, 40 + i);
  EXPECT_EQ(told.end->usage.prompt_tokens, static_cast<int>(requests[0].prompt.size()));
  EXPECT_EQ(told.end->usage.completion_tokens, 3 * static_cast<int>(reply_.size()));
}

TEST_F(ChatServiceTest, AContinuedMessageLeavesItsTurnOpen) {
  engine_says("x");
  ChatRequest request = ask("hi");
  request.store = false;
  request.messages.push_back({"assistant", "Once upon"});
  request.continue_final_message = true;
  run(request);
  const auto open = engine_.generate_requests().back().prompt;
  request.continue_final_message = false;
  request.add_generation_prompt = false;
  run(request);
  const auto closed = engine_.generate_requests().back().prompt;
  ASSERT_LT(open.size(), closed.size());
  EXPECT_TRUE(std::equal(open.begin(), open.end(), closed.begin()));
  EXPECT_TRUE(model_.tokenizer->decode(open, false).ends_with("Once upon"));
}

}  // namespace
}  // namespace cortex
