#include "service/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "fakes/echo_engine.h"
#include "fakes/fake_clock.h"
#include "service/served_models.h"

namespace cortex {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr TokenId kEndOfTurn = 2;

class CompletionServiceTest : public testing::Test {
 protected:
  CompletionServiceTest() { engine_says(" world"); }

  // The engine will say this text, then end.
  void engine_says(const std::string& text) {
    reply_ = ids_of(text);
    reply_.push_back(kEndOfTurn);
  }
  std::vector<TokenId> ids_of(const std::string& text) const {
    return model_.tokenizer->encode(text, {.add_special_tokens = false, .parse_special = false});
  }
  static CompletionRequest ask(const std::string& prompt) {
    CompletionRequest request;
    request.prompts = {prompt};
    request.single = true;
    request.max_tokens = 16;
    return request;
  }
  static CompletionRequest ask_ids(std::vector<std::int64_t> ids) {
    CompletionRequest request = ask("");
    request.prompts = {std::move(ids)};
    return request;
  }

  GenerationEnd run(const CompletionRequest& request) {
    std::promise<GenerationEvent> last;
    service_.run(service_.prepare(request), [&](GenerationEvent event) {
      if (event.end || event.error) last.set_value(std::move(event));
    });
    GenerationEvent event = last.get_future().get();
    if (event.error) throw Error(*event.error);
    return *event.end;
  }
  Error error_of(const CompletionRequest& request) {
    try {
      service_.prepare(request);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(ErrorCode::internal_error, "");
  }

  const ServedModel& model_ = tiny_models().find("chat", Task::complete);
  std::vector<TokenId> reply_;
  FakeClock clock_;
  EchoEngine engine_{{.models = {"chat", "embed"}, .reply = [this](const GenerateRequest&) { return reply_; }}};
  Admission admission_{engine_, 1000};
  ThreadPool text_threads_{2};
  CompletionService service_{tiny_models(), admission_, text_threads_, clock_};
};

TEST_F(CompletionServiceTest, TheTextGoesOnWhereThePromptEnds) {
  const GenerationEnd end = run(ask("Hello"));
  EXPECT_EQ(end.choices[0].text, " world");
  EXPECT_EQ(end.choices[0].reason, FinishReason::stop);
  EXPECT_EQ(end.usage.completion_tokens, static_cast<int>(reply_.size()));
  const GenerateRequest sent = engine_.generate_requests().back();
  EXPECT_EQ(sent.prompt, model_.tokenizer->encode("Hello", {.add_special_tokens = true, .parse_special = true}));
  EXPECT_EQ(sent.max_tokens, 16);
  EXPECT_FALSE(sent.prompt_logprobs);
}

TEST_F(CompletionServiceTest, ControlTokensMayBeWrittenOut) {
  run(ask("<|im_start|>user\nhi<|im_end|>\n"));
  const auto prompt = engine_.generate_requests().back().prompt;
  EXPECT_EQ(std::count_if(prompt.begin(), prompt.end(), [&](TokenId id) { return model_.tokenizer->is_special(id); }),
            2);
}

TEST_F(CompletionServiceTest, IdsAreTakenAsTheyAre) {
  CompletionRequest request = ask_ids({1, 2, 100});
  request.prompts.emplace_back(std::vector<std::int64_t>{7});
  const GenerationEnd end = run(request);
  EXPECT_THAT(end.choices, SizeIs(2));
  const auto sent = engine_.generate_requests();
  EXPECT_THAT(sent[0].prompt, ElementsAre(1, 2, 100));
  EXPECT_THAT(sent[1].prompt, ElementsAre(7));
  EXPECT_EQ(end.usage.prompt_tokens, 4);
}

TEST_F(CompletionServiceTest, AnEchoBeginsWithThePrompt) {
  CompletionRequest request = ask("Größe:<|im_end|>");
  request.echo = true;
  EXPECT_EQ(run(request).choices[0].text, "Größe:<|im_end|> world");
  EXPECT_FALSE(engine_.generate_requests().back().prompt_logprobs);
  request.stop = {"Größe"};  // is looked for in what is new
  EXPECT_EQ(run(request).choices[0].text, "Größe:<|im_end|> world");

  std::vector<std::int64_t> ids;
  for (const TokenId id : ids_of("Größe")) ids.push_back(id);
  request = ask_ids(ids);
  request.echo = true;
  EXPECT_EQ(run(request).choices[0].text, "Größe world");
}

TEST_F(CompletionServiceTest, AnEchoWithLogprobsTellsThePromptsTokens) {
  CompletionRequest request = ask("Hello");
  request.echo = request.logprobs = true;
  request.top_logprobs = 2;
  const ChoiceEnd choice = run(request).choices[0];
  EXPECT_TRUE(engine_.generate_requests().back().prompt_logprobs);
  const std::size_t prompt = engine_.generate_requests().back().prompt.size();
  ASSERT_EQ(choice.tokens.size(), prompt + reply_.size() - 1);
  EXPECT_FALSE(choice.tokens[0].logprob);
  std::string text;
  for (std::size_t i = 0; i < choice.tokens.size(); ++i) {
    EXPECT_EQ(choice.tokens[i].begin_characters, count_characters(text));
    text += choice.tokens[i].bytes;
    if (i > 0) {
      EXPECT_EQ(choice.tokens[i].logprob, -0.5f);
      EXPECT_THAT(choice.tokens[i].top, SizeIs(2)) << i;
    }
  }
  EXPECT_EQ(text, choice.text);
}

TEST_F(CompletionServiceTest, NothingNewButTheScoresOfAPrompt) {
  CompletionRequest request = ask("Hello");
  request.echo = request.logprobs = true;
  request.max_tokens = 0;
  const GenerationEnd end = run(request);
  EXPECT_EQ(end.choices[0].text, "Hello");
  EXPECT_EQ(end.choices[0].reason, FinishReason::length);
  EXPECT_THAT(end.choices[0].tokens, SizeIs(engine_.generate_requests().back().prompt.size()));
  EXPECT_EQ(end.usage.completion_tokens, 0);
}

TEST_F(CompletionServiceTest, ChoicesOfAPromptHaveSeedsOfTheirOwn) {
  CompletionRequest request = ask("a");
  request.prompts.emplace_back("b");
  request.single = false;
  request.n = 2;
  request.sampling.seed = 10;
  const GenerationEnd end = run(request);
  EXPECT_THAT(end.choices, SizeIs(4));
  const auto sent = engine_.generate_requests();
  std::vector<std::uint64_t> seeds;
  for (const auto& one : sent) seeds.push_back(one.sampling.seed);
  EXPECT_THAT(seeds, ElementsAre(10, 11, 10, 11));
  EXPECT_EQ(end.usage.prompt_tokens, static_cast<int>(sent[0].prompt.size() + sent[2].prompt.size()));
}

TEST_F(CompletionServiceTest, RefusesWhatIsNoPrompt) {
  CompletionRequest none = ask("");
  none.prompts.clear();
  EXPECT_EQ(error_of(none).code(), ErrorCode::empty_input);
  EXPECT_EQ(error_of(ask_ids({})).code(), ErrorCode::empty_input);
  for (const std::int64_t id : {std::int64_t{-1}, std::int64_t{484}, std::int64_t{1} << 40}) {
    CompletionRequest request = ask_ids({1, id});
    request.single = false;
    const Error error = error_of(request);
    EXPECT_EQ(error.code(), ErrorCode::invalid_token_id);
    EXPECT_EQ(error.param(), "prompt[0]");
    EXPECT_THAT(error.message(), HasSubstr(std::to_string(id)));
    EXPECT_THAT(error.message(), HasSubstr("484"));
  }
  EXPECT_EQ(error_of(ask(std::string(1 << 20, 'a'))).code(), ErrorCode::request_too_large);
  CompletionRequest many = ask("a");
  many.prompts.resize(17, "a");
  many.n = 16;
  EXPECT_THAT(error_of(many).message(), HasSubstr("at most 256"));
  CompletionRequest request = ask("a");
  request.model = "embed";
  EXPECT_EQ(error_of(request).code(), ErrorCode::model_not_capable);
  request = ask("a");
  request.max_tokens = 600;
  EXPECT_EQ(error_of(request).code(), ErrorCode::context_length_exceeded);
  EXPECT_EQ(error_of(request).param(), "prompt");
}

TEST_F(CompletionServiceTest, AQueueWithoutRoomForAllTextsTakesNone) {
  Admission narrow(engine_, 3);
  CompletionService service(tiny_models(), narrow, text_threads_, clock_);
  CompletionRequest request = ask("a");
  request.n = 4;
  EXPECT_THROW(service.prepare(request), Error);
  request.n = 3;
  const GenerationCall call = service.prepare(request);
  EXPECT_THAT(call.choices, SizeIs(3));
  EXPECT_THAT(call.id, testing::StartsWith("cmpl-"));
}

}  // namespace
}  // namespace cortex
