#include <gmock/gmock.h>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

const std::string kPath = "/v1/completions";

class OpenaiCompletionTest : public FrontFixture {
 protected:
  OpenaiCompletionTest() {
    engine_says(" world");
    engine_.set_status(ready_status());
    front_ = make(engine_, {}, 20);
  }
  // The engine will say this text, then end.
  void engine_says(const std::string& text) {
    reply_ = tokenizer().encode(text, {.add_special_tokens = false, .parse_special = false});
    reply_.push_back(kEndOfTurn);
  }
  static const Tokenizer& tokenizer() { return *models().find("chat", Task::complete).tokenizer; }

  static std::string ask(const std::string& fields) { return R"({"prompt":"Hello",)" + fields + "}"; }
  std::string body_of(const std::string& body) {
    const RawReply reply = post(kPath, body);
    EXPECT_EQ(reply.status, 200) << body << reply.body;
    return reply.body;
  }
};

TEST_F(OpenaiCompletionTest, AReplyHasTheDocumentedShape) {
  const std::string body = body_of(R"({"model":"chat","prompt":"Hello"})");
  EXPECT_THAT(body, StartsWith(R"({"id":"cmpl-)"));
  EXPECT_THAT(body, HasSubstr(R"("object":"text_completion","created":)"));
  EXPECT_THAT(body, HasSubstr(R"("model":"chat","choices":[{"text":" world","index":0,"logprobs":null,)"
                              R"("finish_reason":"stop"}],"usage":{"prompt_tokens":)"));
  EXPECT_EQ(engine_.generate_requests().back().max_tokens, 16);
}

TEST_F(OpenaiCompletionTest, ThePromptHasFourShapes) {
  body_of(R"({"prompt":[5,6,7]})");
  EXPECT_THAT(engine_.generate_requests().back().prompt, ElementsAre(5, 6, 7));
  EXPECT_THAT(body_of(R"({"prompt":["a","b"]})"), HasSubstr(R"("index":1)"));
  EXPECT_THAT(body_of(R"({"prompt":[[5],[6,7]]})"), HasSubstr(R"("prompt_tokens":3)"));
  EXPECT_THAT(engine_.generate_requests().back().prompt, ElementsAre(6, 7));
  EXPECT_THAT(engine_.generate_requests(), SizeIs(5));
}

TEST_F(OpenaiCompletionTest, EveryFieldReachesTheEngine) {
  body_of(ask(R"("max_tokens":9,"temperature":0.5,"top_p":0.5,"seed":4,"presence_penalty":1,"frequency_penalty":-1,)"
              R"("logit_bias":{"3":-100},"logprobs":2,"stop":["zzz"],"n":2,"best_of":2,"priority":3,"cache_salt":"s",)"
              R"("timeout_s":2,"user":"u","suffix":null,"stream_options":null)"));
  const auto requests = engine_.generate_requests();
  ASSERT_THAT(requests, SizeIs(2));
  const GenerateRequest& request = requests[1];
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.5f);
  EXPECT_EQ(request.sampling.seed, 5u);
  EXPECT_EQ(request.sampling.presence_penalty, 1.0f);
  EXPECT_EQ(request.sampling.frequency_penalty, -1.0f);
  EXPECT_THAT(request.logit_bias, ElementsAre(testing::Pair(3, -100.0f)));
  EXPECT_TRUE(request.logprobs);
  EXPECT_FALSE(request.prompt_logprobs);
  EXPECT_EQ(request.top_logprobs, 2);
  EXPECT_EQ(request.priority, 3);
  EXPECT_EQ(request.timeout, std::chrono::milliseconds(2000));
  EXPECT_THAT(request.salt, EndsWith(":s"));
}

TEST_F(OpenaiCompletionTest, WithoutMaxTokensAReplyEndsWithTheContext) {
  std::string ids = "5";
  for (int i = 1; i < 510; ++i) ids += ",5";
  body_of(R"({"prompt":[)" + ids + "]}");
  EXPECT_EQ(engine_.generate_requests().back().max_tokens, 2);
  const RawReply reply = post(kPath, R"({"max_tokens":16,"prompt":[)" + ids + "]}");
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, HasSubstr("context_length_exceeded"));
  EXPECT_EQ(post(kPath, R"({"prompt":[5,5,)" + ids + "]}").status, 400) << "no room for a single one";
}

TEST_F(OpenaiCompletionTest, LogprobsSayWhereEachTokenBegins) {
  const std::string body = body_of(ask(R"("logprobs":0)"));
  std::string tokens;
  std::string offsets;
  std::size_t offset = 5;  // after "Hello"
  for (std::size_t i = 0; i + 1 < reply_.size(); ++i) {
    const std::string token(tokenizer().token_bytes(reply_[i]));
    tokens += fmt::format(R"({}"{}")", i ? "," : "", token);
    offsets += fmt::format("{}{}", i ? "," : "", offset);
    offset += token.size();
  }
  EXPECT_THAT(body, HasSubstr(fmt::format(R"("logprobs":{{"tokens":[{}],"token_logprobs":[-0.5)", tokens)));
  EXPECT_THAT(body, HasSubstr(fmt::format(R"("text_offset":[{}]}})", offsets)));
  EXPECT_THAT(body, HasSubstr(R"("top_logprobs":[{")"));
}

TEST_F(OpenaiCompletionTest, AnEchoWithLogprobsBeginsWithNull) {
  const std::string body = body_of(ask(R"("echo":true,"logprobs":1,"max_tokens":0)"));
  EXPECT_THAT(body, HasSubstr(R"("choices":[{"text":"Hello","index":0,"logprobs":{"tokens":[")"));
  EXPECT_THAT(body, HasSubstr(R"("token_logprobs":[null)"));
  EXPECT_THAT(body, HasSubstr(R"("top_logprobs":[null)"));
  EXPECT_THAT(body, HasSubstr(R"("text_offset":[0)"));
  EXPECT_THAT(body, HasSubstr(R"("finish_reason":"length")"));
  EXPECT_THAT(body, HasSubstr(R"("completion_tokens":0,)"));
  EXPECT_THAT(body_of(ask(R"("echo":true)")), HasSubstr(R"("text":"Hello world")"));
}

TEST_F(OpenaiCompletionTest, ATokenThatIsNoTextIsToldByItsBytes) {
  engine_says("🙂");
  ASSERT_GT(reply_.size(), 2u) << "the tiny vocabulary has no such token";
  const std::string body = body_of(ask(R"("logprobs":1)"));
  EXPECT_THAT(body, HasSubstr(R"("tokens":["bytes:\\xf0)"));
  EXPECT_THAT(body, HasSubstr(R"({"bytes:\\xf0)"));
  EXPECT_THAT(body, HasSubstr(R"("text":"🙂")"));
}

TEST_F(OpenaiCompletionTest, AStreamIsPiecesFinishUsageDone) {
  const RawReply reply =
      post(kPath, ask(R"("stream":true,"echo":true,"logprobs":1,"stream_options":{"include_usage":true})"));
  const auto found = events(reply.body);
  ASSERT_GE(found.size(), 5u);
  EXPECT_THAT(found.front(), HasSubstr(R"("object":"text_completion")"));
  EXPECT_THAT(found.front(), HasSubstr(R"("choices":[{"text":"Hello","index":0,"logprobs":{"tokens":)"));
  EXPECT_THAT(found.front(), EndsWith(R"("finish_reason":null}],"usage":null})"));
  EXPECT_THAT(found[found.size() - 3], HasSubstr(R"("finish_reason":"stop")"));
  EXPECT_THAT(found[found.size() - 2], HasSubstr(R"("choices":[],"usage":{"prompt_tokens":)"));
  EXPECT_EQ(found.back(), "data: [DONE]");
}

TEST_F(OpenaiCompletionTest, AStopStringNeverAppears) {
  engine_says("one two three");
  EXPECT_THAT(body_of(ask(R"("stop":" three")")), HasSubstr(R"("text":"one two","index":0)"));
  EXPECT_THAT(post(kPath, ask(R"("stop":[" three"],"stream":true)")).body, Not(HasSubstr("three")));
}

TEST_F(OpenaiCompletionTest, RefusesInOpenaisShape) {
  struct Row {
    std::string body;
    const char* code;
    const char* param;
    int status = 400;
  };
  std::string many = R"({"prompt":["a")";
  for (int i = 0; i < 256; ++i) many += R"(,"a")";
  const std::vector<Row> table = {
      {"{}", "missing_required_parameter", "prompt"},
      {R"({"prompt":1})", "invalid_type", "prompt"},
      {R"({"prompt":[]})", "empty_input", "prompt"},
      {R"({"prompt":""})", "empty_input", "prompt"},
      {R"({"prompt":["a",""]})", "empty_input", "prompt[1]"},
      {R"({"prompt":[[]]})", "empty_input", "prompt[0]"},
      {R"({"prompt":[-1]})", "invalid_token_id", "prompt"},
      {R"({"prompt":[484]})", "invalid_token_id", "prompt"},
      {R"({"prompt":[[1],[1099511627776]]})", "invalid_token_id", "prompt[1]"},
      {R"({"prompt":[1.5]})", "invalid_type", "prompt[0]"},
      {R"({"prompt":[[[1]]]})", "invalid_type", "prompt[0][0]"},
      {R"({"prompt":["a",[1]]})", "invalid_type", "prompt[1]"},
      {R"({"prompt":[1,"a"]})", "invalid_type", "prompt[1]"},
      {many + "]}", "batch_too_large", "prompt"},
      {R"({"prompt":["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"],"n":16})", "invalid_value",
       "prompt"},
      {ask(R"("suffix":"x")"), "unsupported_parameter", "suffix"},
      {ask(R"("best_of":2)"), "invalid_value", "best_of"},
      {ask(R"("n":2,"best_of":1)"), "invalid_value", "best_of"},
      {ask(R"("best_of":"1")"), "invalid_type", "best_of"},
      {ask(R"("n":17)"), "invalid_value", "n"},
      {ask(R"("max_tokens":0)"), "invalid_value", "max_tokens"},
      {ask(R"("max_tokens":-1)"), "invalid_value", "max_tokens"},
      {ask(R"("max_tokens":600)"), "context_length_exceeded", "prompt"},
      {ask(R"("logprobs":21)"), "invalid_value", "logprobs"},
      {ask(R"("logprobs":true)"), "invalid_type", "logprobs"},
      {ask(R"("echo":1)"), "invalid_type", "echo"},
      {ask(R"("stop":["a","b","c","d","e"])"), "invalid_value", "stop"},
      {ask(R"("stream_options":{})"), "invalid_value", "stream_options"},
      {ask(R"("temperature":3)"), "invalid_value", "temperature"},
      {ask(R"("model":"embed")"), "model_not_capable", "model"},
      {ask(R"("model":"none")"), "model_not_found", "model", 404},
  };
  for (const auto& row : table) {
    const RawReply reply = post(kPath, row.body);
    EXPECT_EQ(reply.status, row.status) << row.body << reply.body;
    EXPECT_THAT(reply.body, StartsWith(R"({"error":{"message":")"));
    EXPECT_THAT(reply.body, HasSubstr(fmt::format(R"("param":"{}","code":"{}")", row.param, row.code))) << row.body;
  }
  const RawReply large = post(kPath, R"({"prompt":")" + std::string(1 << 20, 'a') + "\"}");
  EXPECT_EQ(large.status, 413);
  EXPECT_THAT(large.body, HasSubstr(R"("code":"request_too_large")"));
  EXPECT_THAT(engine_.generate_requests(), SizeIs(0));
}

TEST_F(OpenaiCompletionTest, ManyTextsAtOnceFillTheQueue) {
  EXPECT_THAT(body_of(ask(R"("n":16)")), HasSubstr(R"("index":15)"));
  const RawReply reply = post(kPath, R"({"prompt":["a","b"],"n":16})");
  EXPECT_EQ(reply.status, 429);
  EXPECT_THAT(reply.body, HasSubstr(R"("type":"rate_limit_error")"));
  EXPECT_TRUE(reply.headers.contains("retry-after"));
}

TEST_F(OpenaiCompletionTest, ACallCanBeCancelledByItsId) {
  EchoEngine slow({.models = {"chat"}, .token_delay = std::chrono::milliseconds(500)});
  slow.set_status(ready_status());
  front_ = make(slow, {}, 20);
  RawClient client(front_->port());
  client.send(request(kPath, ask(R"("stream":true,"max_tokens":400)")));
  const std::string begin = client.read_until(R"("object")");
  const auto at = begin.find("cmpl-");
  const std::string id = begin.substr(at, begin.find('"', at) - at);
  EXPECT_EQ(del("/requests/" + id).status, 200);
  EXPECT_THAT(client.read_all(), HasSubstr(R"(data: {"error":{"message":"the request was cancelled")"));
  front_->stop();
}

}  // namespace
}  // namespace cortex
