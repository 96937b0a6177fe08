#include <gmock/gmock.h>

#include <algorithm>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

const std::string kPath = "/v1/chat/completions";
const std::string kUser = R"("messages":[{"role":"user","content":"hi"}])";

// A body with one user message and these fields.
std::string ask(const std::string& fields = "") { return "{" + kUser + (fields.empty() ? "" : "," + fields) + "}"; }

class OpenaiChatTest : public FrontFixture {
 protected:
  OpenaiChatTest() { serve(engine_); }
  void serve(EchoEngine& engine) {
    engine.set_status(ready_status());
    front_ = make(engine, {}, 20);
  }
  GenerateRequest sent(const std::string& body) {
    const RawReply reply = post(kPath, body);
    EXPECT_EQ(reply.status, 200) << body << reply.body;
    return engine_.generate_requests().back();
  }
  std::string prompt_of(const std::string& body) {
    return models().find("chat", Task::chat).tokenizer->decode(sent(body).prompt, false);
  }
};

TEST_F(OpenaiChatTest, AReplyHasTheDocumentedShape) {
  const RawReply reply = post(kPath, ask(R"("model":"chat")"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_THAT(reply.body, StartsWith(R"({"id":"chatcmpl-)"));
  for (const char* part :
       {R"("object":"chat.completion","created":)", R"("model":"chat","choices":[{"index":0,"message":)",
        R"({"role":"assistant","content":")", R"(","refusal":null},"logprobs":null,"finish_reason":"stop"}])",
        R"("usage":{"prompt_tokens":)", R"("completion_tokens":4,)", R"("prompt_tokens_details":{"cached_tokens":0})",
        R"("completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,)",
        R"("rejected_prediction_tokens":0}},"timings":{"queue_ms":)"}) {
    EXPECT_THAT(reply.body, HasSubstr(part));
  }
  EXPECT_THAT(reply.body, Not(HasSubstr("conversation_id")));
}

TEST_F(OpenaiChatTest, EveryFieldReachesTheEngine) {
  const GenerateRequest request = sent(ask(
      R"("temperature":0.5,"top_p":0.5,"top_k":7,"min_p":0.25,"presence_penalty":1,"frequency_penalty":-1,)"
      R"("repetition_penalty":1.5,"seed":-4,"max_tokens":9,"max_completion_tokens":5,"logit_bias":{"3":-100,"483":1},)"
      R"("logprobs":true,"top_logprobs":3,"priority":-2,"timeout_s":1.5,"cache_salt":"s","user":"u","store":true,)"
      R"("metadata":{"a":"b"},"service_tier":"auto","tools":[],"tool_choice":"none","response_format":{"type":"text"},)"
      R"("parallel_tool_calls":true,"unknown_to_us":1,"n":1,"stop":["a","b","c","d"],"functions":null)"));
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.5f);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_EQ(request.sampling.min_p, 0.25f);
  EXPECT_EQ(request.sampling.presence_penalty, 1.0f);
  EXPECT_EQ(request.sampling.frequency_penalty, -1.0f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(request.sampling.seed, static_cast<std::uint64_t>(std::int64_t{-4}));
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_THAT(request.logit_bias, ElementsAre(testing::Pair(3, -100.0f), testing::Pair(483, 1.0f)));
  EXPECT_TRUE(request.logprobs);
  EXPECT_EQ(request.top_logprobs, 3);
  EXPECT_EQ(request.priority, -2);
  EXPECT_EQ(request.timeout, std::chrono::milliseconds(1500));
  EXPECT_THAT(request.salt, EndsWith(":s"));
  EXPECT_EQ(sent(ask(R"("max_tokens":9)")).max_tokens, 9);
}

TEST_F(OpenaiChatTest, MessagesBecomeThePrompt) {
  EXPECT_EQ(
      prompt_of(R"({"messages":[{"role":"developer","content":"be brief"},
                          {"role":"user","name":"ada","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
                          {"role":"assistant","content":"c","refusal":null,"tool_calls":[],"annotations":[]},
                          {"role":"user","content":"d"}]})"),
      "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
      "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(prompt_of(ask(R"("add_generation_prompt":false)")), "<|im_start|>user\nhi<|im_end|>\n");
  EXPECT_EQ(prompt_of(R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"So"}],
                          "continue_final_message":true,"add_generation_prompt":false})"),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nSo");
}

TEST_F(OpenaiChatTest, NothingIsStored) {
  post(kPath, ask(R"("store":true)"));
  EXPECT_THAT(get("/metrics").body, HasSubstr("cortex_conversations 0"));
}

TEST_F(OpenaiChatTest, SeveralChoicesHaveTheirIndexAndSeed) {
  const RawReply reply = post(kPath, ask(R"("n":3,"seed":7)"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  for (const char* part : {R"({"index":0,)", R"({"index":1,)", R"({"index":2,)", R"("completion_tokens":12)"}) {
    EXPECT_THAT(reply.body, HasSubstr(part));
  }
  std::vector<std::uint64_t> seeds;
  for (const auto& request : engine_.generate_requests()) seeds.push_back(request.sampling.seed);
  EXPECT_THAT(seeds, ElementsAre(7, 8, 9));
}

TEST_F(OpenaiChatTest, LogprobsTellEachToken) {
  const RawReply reply = post(kPath, ask(R"("logprobs":true,"top_logprobs":1)"));
  EXPECT_THAT(reply.body, HasSubstr(R"("logprobs":{"content":[{"token":")"));
  EXPECT_THAT(reply.body, HasSubstr(R"(,"logprob":-0.5,"bytes":[)"));
  EXPECT_THAT(reply.body, HasSubstr(R"("top_logprobs":[{"token":")"));
}

TEST_F(OpenaiChatTest, AStreamIsRolePiecesFinishDone) {
  const RawReply reply = post(kPath, ask(R"("stream":true)"));
  EXPECT_EQ(reply.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_TRUE(reply.complete);
  const auto found = events(reply.body);
  ASSERT_GE(found.size(), 4u);
  EXPECT_THAT(found.front(), StartsWith(R"(data: {"id":"chatcmpl-)"));
  EXPECT_THAT(found.front(), HasSubstr(R"("object":"chat.completion.chunk","created":)"));
  EXPECT_THAT(found.front(),
              EndsWith(R"("choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,)"
                       R"("finish_reason":null}]})"));
  EXPECT_THAT(found[1], HasSubstr(R"("delta":{"content":")"));
  EXPECT_THAT(found[found.size() - 2], EndsWith(R"("delta":{},"logprobs":null,"finish_reason":"stop"}]})"));
  EXPECT_EQ(found.back(), "data: [DONE]");
}

TEST_F(OpenaiChatTest, UsageIsToldAsOftenAsItIsAskedFor) {
  const auto with = [&](const char* options) {
    auto found = events(post(kPath, ask(fmt::format(R"("stream":true,"stream_options":{})", options))).body);
    EXPECT_EQ(found.back(), "data: [DONE]");
    found.pop_back();
    return found;
  };
  for (const auto& chunk : with("{}")) EXPECT_THAT(chunk, Not(HasSubstr("usage")));
  auto chunks = with(R"({"include_usage":true,"unknown":1})");
  EXPECT_THAT(chunks.back(), HasSubstr(R"("choices":[],"usage":{"prompt_tokens":)"));
  chunks.pop_back();
  EXPECT_THAT(chunks, testing::Each(EndsWith(R"(,"usage":null})")));
  chunks = with(R"({"include_usage":true,"continuous_usage_stats":true})");
  EXPECT_THAT(chunks, testing::Each(HasSubstr(R"("usage":{"prompt_tokens":)")));
  EXPECT_THAT(chunks.front(), HasSubstr(R"("completion_tokens":0,)"));
  EXPECT_THAT(chunks.back(), HasSubstr(R"("choices":[],)"));
}

TEST_F(OpenaiChatTest, ChoicesOfAStreamEachBeginAndFinish) {
  const auto found = events(post(kPath, ask(R"("stream":true,"n":2)")).body);
  for (const char* index : {R"("index":0)", R"("index":1)"}) {
    const auto of_choice = [&](const char* part) {
      return std::count_if(found.begin(), found.end(), [&](const std::string& event) {
        return event.find(index) != std::string::npos && event.find(part) != std::string::npos;
      });
    };
    EXPECT_EQ(of_choice(R"("role":"assistant")"), 1);
    EXPECT_EQ(of_choice(R"("finish_reason":"stop")"), 1);
    EXPECT_GE(of_choice(R"("delta":{"content":)"), 1);
  }
  EXPECT_EQ(found.back(), "data: [DONE]");
}

struct Refusal {
  const char* fields;
  const char* code;
  const char* param;
  int status = 400;
};

TEST_F(OpenaiChatTest, RefusesInOpenaisShape) {
  const std::vector<Refusal> table = {
      {R"("functions":[])", "unsupported_parameter", "functions"},
      {R"("function_call":"auto")", "unsupported_parameter", "function_call"},
      {R"("audio":{})", "unsupported_parameter", "audio"},
      {R"("web_search_options":{})", "unsupported_parameter", "web_search_options"},
      {R"("tools":[{"type":"function"}])", "missing_required_parameter", "tools[0].function"},
      {R"("tools":"x")", "invalid_type", "tools"},
      {R"("tool_choice":"required")", "invalid_value", "tool_choice"},
      {R"("tool_choice":{"type":"function"})", "missing_required_parameter", "tool_choice.function"},
      {R"("tool_choice":"sometimes")", "invalid_value", "tool_choice"},
      {R"("response_format":{"type":"json_schema"})", "missing_required_parameter", "response_format.json_schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "missing_required_parameter",
       "response_format.json_schema.schema"},
      {R"("response_format":{"type":"xml"})", "invalid_value", "response_format.type"},
      {R"("response_format":{})", "missing_required_parameter", "response_format.type"},
      {R"("response_format":"text")", "invalid_type", "response_format"},
      {R"("chat_template":"x")", "chat_template_not_allowed", "chat_template", 403},
      {R"("chat_template_kwargs":{"messages":1})", "invalid_value", "chat_template_kwargs.messages"},
      {R"("chat_template_kwargs":{"thinking":{}})", "invalid_value", "chat_template_kwargs.thinking"},
      {R"("reasoning_effort":"extreme")", "invalid_value", "reasoning_effort"},
      {R"("reasoning_effort":1)", "invalid_type", "reasoning_effort"},
      {R"("n":0)", "invalid_value", "n"},
      {R"("n":-1)", "invalid_value", "n"},
      {R"("n":17)", "invalid_value", "n"},
      {R"("n":1000000000)", "invalid_value", "n"},
      {R"("n":true)", "invalid_type", "n"},
      {R"("max_tokens":0)", "invalid_value", "max_tokens"},
      {R"("max_tokens":-1)", "invalid_value", "max_tokens"},
      {R"("max_tokens":2147483648)", "invalid_value", "max_tokens"},
      {R"("max_completion_tokens":0)", "invalid_value", "max_completion_tokens"},
      {R"("max_completion_tokens":1.5)", "invalid_type", "max_completion_tokens"},
      {R"("max_tokens":600)", "context_length_exceeded", "messages"},
      {R"("temperature":-1)", "invalid_value", "temperature"},
      {R"("temperature":3)", "invalid_value", "temperature"},
      {R"("temperature":"1")", "invalid_type", "temperature"},
      {R"("top_p":0)", "invalid_value", "top_p"},
      {R"("top_p":1.1)", "invalid_value", "top_p"},
      {R"("top_k":-2)", "invalid_value", "top_k"},
      {R"("min_p":2)", "invalid_value", "min_p"},
      {R"("presence_penalty":100)", "invalid_value", "presence_penalty"},
      {R"("frequency_penalty":-3)", "invalid_value", "frequency_penalty"},
      {R"("repetition_penalty":0)", "invalid_value", "repetition_penalty"},
      {R"("seed":1.5)", "invalid_type", "seed"},
      {R"("logit_bias":{"-1":1})", "invalid_token_id", "logit_bias"},
      {R"("logit_bias":{"484":1})", "invalid_token_id", "logit_bias"},
      {R"("logit_bias":{"x":1})", "invalid_token_id", "logit_bias"},
      {R"("logit_bias":{"1":101})", "invalid_value", "logit_bias.1"},
      {R"("logit_bias":[])", "invalid_type", "logit_bias"},
      {R"("logprobs":1)", "invalid_type", "logprobs"},
      {R"("top_logprobs":2)", "invalid_value", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "invalid_value", "top_logprobs"},
      {R"("stop":["a","b","c","d","e"])", "invalid_value", "stop"},
      {R"("stop":"")", "invalid_value", "stop"},
      {R"("stop":1)", "invalid_type", "stop"},
      {R"("stream":"yes")", "invalid_type", "stream"},
      {R"("stream_options":{})", "invalid_value", "stream_options"},
      {R"("stream":false,"stream_options":{"include_usage":true})", "invalid_value", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":1})", "invalid_type", "stream_options.include_usage"},
      {R"("stream":true,"stream_options":[])", "invalid_type", "stream_options"},
      {R"("cache_salt":"")", "invalid_value", "cache_salt"},
      {R"("cache_salt":"a/b")", "invalid_value", "cache_salt"},
      {R"("cache_salt":1)", "invalid_type", "cache_salt"},
      {R"("priority":11)", "invalid_value", "priority"},
      {R"("timeout_s":-1)", "invalid_value", "timeout_s"},
      {R"("timeout_s":3601)", "invalid_value", "timeout_s"},
      {R"("continue_final_message":true)", "invalid_value", "continue_final_message"},
      {R"("continue_final_message":true,"add_generation_prompt":true)", "invalid_value", "continue_final_message"},
      {R"("add_generation_prompt":1)", "invalid_type", "add_generation_prompt"},
      {R"("model":"embed")", "model_not_capable", "model"},
      {R"("model":"unknown")", "model_not_found", "model", 404},
      {R"("model":"../x")", "invalid_value", "model"},
  };
  for (const auto& row : table) {
    const RawReply reply = post(kPath, ask(row.fields));
    EXPECT_EQ(reply.status, row.status) << row.fields << reply.body;
    EXPECT_THAT(reply.body, StartsWith(R"({"error":{"message":")"));
    EXPECT_THAT(reply.body,
                HasSubstr(row.status == 403 ? R"("type":"permission_error")" : R"("type":"invalid_request_error")"));
    EXPECT_THAT(reply.body, HasSubstr(fmt::format(R"("code":"{}")", row.code))) << row.fields;
    EXPECT_THAT(reply.body, HasSubstr(fmt::format(R"("param":"{}",)", row.param))) << row.fields;
  }
  EXPECT_THAT(engine_.generate_requests(), SizeIs(0));
}

TEST_F(OpenaiChatTest, RefusesMessagesThatAreNone) {
  const std::string image = R"([{"type":"image_url","image_url":{"url":"%"}}])";
  const auto with_image = [&](const std::string& url) {
    std::string content = image;
    return content.replace(content.find('%'), 1, url);
  };
  const auto message = [](const std::string& role, const std::string& content) {
    return fmt::format(R"([{{"role":"{}","content":{}}}])", role, content);
  };
  struct Row {
    std::string messages;
    const char* code;
    const char* param;
  };
  const std::vector<Row> table = {
      {"[]", "invalid_value", "messages"},
      {R"("x")", "invalid_type", "messages"},
      {"null", "missing_required_parameter", "messages"},
      {message("bot", R"("x")"), "invalid_value", "messages[0].role"},
      {message("tool", R"("x")"), "missing_required_parameter", "messages[0].tool_call_id"},
      {R"([{"content":"x"}])", "missing_required_parameter", "messages[0].role"},
      {message("user", "null"), "missing_required_parameter", "messages[0].content"},
      {message("user", "1"), "invalid_type", "messages[0].content"},
      {message("user", R"([{"type":"video"}])"), "invalid_value", "messages[0].content[0].type"},
      {message("user", R"([{"type":"text"}])"), "missing_required_parameter", "messages[0].content[0].text"},
      {message("user", with_image("http://a/b.png")), "remote_media_disabled", "messages[0].content[0]"},
      {message("user", with_image("file:///etc/passwd")), "remote_media_disabled", "messages[0].content[0]"},
      {message("user", with_image("ftp://a/b.png")), "remote_media_disabled", "messages[0].content[0]"},
      {message("user", with_image("data:image/png;base64,AA")), "model_not_capable", "messages[0].content[0]"},
      {R"([{"role":"assistant","content":"x","tool_calls":[{"id":"1"}]}])", "missing_required_parameter",
       "messages[0].tool_calls[0].type"},
  };
  for (const auto& row : table) {
    const RawReply reply = post(kPath, fmt::format(R"({{"messages":{}}})", row.messages));
    EXPECT_EQ(reply.status, 400) << row.messages << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(fmt::format(R"("param":"{}","code":"{}")", row.param, row.code)));
  }
  std::string many = "[";
  for (int i = 0; i < 2049; ++i) many += std::string(i ? "," : "") + R"({"role":"user","content":"x"})";
  EXPECT_THAT(post(kPath, "{\"messages\":" + many + "]}").body, HasSubstr(R"("code":"invalid_value")"));
}

TEST_F(OpenaiChatTest, ErrorsBeforeTheHandlerHaveTheShapeToo) {
  front_ = make(engine_, {"a-key"}, 20);
  const std::string key = "Authorization: Bearer a-key\r\n";
  const RawReply unauthorized = post(kPath, ask());
  EXPECT_EQ(unauthorized.status, 401);
  EXPECT_THAT(unauthorized.body, StartsWith(R"({"error":{"message":)"));
  EXPECT_THAT(unauthorized.body, HasSubstr(R"("code":"invalid_api_key")"));
  for (const auto& [body, code] :
       std::vector<std::pair<std::string, std::string>>{{"", "invalid_json"},
                                                        {"[]", "invalid_json"},
                                                        {"{\"a\":01}", "invalid_json"},
                                                        {"\"x\"", "invalid_json"},
                                                        {R"({"n":1,"n":1})", "duplicate_key"}}) {
    const RawReply reply = post(kPath, body, key);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_THAT(reply.body, StartsWith(R"({"error":{"message":)"));
    EXPECT_THAT(reply.body, HasSubstr(fmt::format(R"("code":"{}")", code)));
  }
  const RawReply method = get(kPath, key);
  EXPECT_EQ(method.status, 405);
  EXPECT_THAT(method.body, HasSubstr(R"({"error":{"message":)"));
  EXPECT_THAT(get("/v1/nothing", key).body, StartsWith(R"({"error":{"message":)"));
}

TEST_F(OpenaiChatTest, ALateErrorIsAnEventWithoutDone) {
  auto slow =
      std::make_unique<EchoEngine>(EchoOptions{.models = {"chat"}, .token_delay = std::chrono::milliseconds(500)});
  serve(*slow);
  RawClient client(front_->port());
  client.send(request(kPath, ask(R"("stream":true,"n":2)")));
  client.read_until(R"("content":""})");
  slow.reset();  // as a worker's death
  const std::string rest = client.read_all();
  EXPECT_THAT(rest, HasSubstr(R"(data: {"error":{"message":)"));
  EXPECT_THAT(rest, HasSubstr(R"("type":"server_error","param":null,"code":"engine_unavailable"}})"));
  EXPECT_THAT(rest, Not(HasSubstr("[DONE]")));
  EXPECT_EQ(rest.find(R"("error":)"), rest.rfind(R"("error":)"));
  front_->stop();
}

TEST_F(OpenaiChatTest, AnErrorBeforeTheFirstTokenIsAPlainAnswer) {
  EchoEngine broken({.models = {"chat"}, .fail_generate = [](const GenerateRequest&) {
                       return std::optional(Error(ErrorCode::request_cannot_fit, "it needs too much"));
                     }});
  serve(broken);
  const RawReply reply = post(kPath, ask(R"("stream":true)"));
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  EXPECT_THAT(reply.body, HasSubstr(R"("code":"request_cannot_fit")"));
  front_->stop();
}

TEST_F(OpenaiChatTest, ACallCanBeCancelledByItsId) {
  EchoEngine slow({.models = {"chat"}, .token_delay = std::chrono::milliseconds(500)});
  serve(slow);
  RawClient client(front_->port());
  client.send(request(kPath, ask(R"("stream":true,"n":2)")));
  const std::string begin = client.read_until(R"("object")");
  const auto at = begin.find("chatcmpl-");
  const std::string id = begin.substr(at, begin.find('"', at) - at);
  const RawReply cancelled = del("/requests/" + id);
  EXPECT_EQ(cancelled.body, fmt::format(R"({{"id":"{}","cancelled":true}})", id));
  EXPECT_THAT(client.read_all(), HasSubstr(R"("code":"cancelled")"));
  EXPECT_EQ(del("/requests/" + id).status, 404);
  front_->stop();
}

TEST_F(OpenaiChatTest, AClientThatLeavesEndsItsTexts) {
  EchoEngine slow({.models = {"chat"}, .token_delay = std::chrono::milliseconds(500)});
  serve(slow);
  {
    RawClient client(front_->port());
    client.send(request(kPath, ask(R"("stream":true,"n":3)")));
    client.read_until(R"("content":""})");
  }
  for (int i = 0; i < 500 && slow.status().running > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(slow.status().running, 0);
  front_->stop();
}

TEST_F(OpenaiChatTest, MetricsCountEveryText) {
  post(kPath, ask(R"("n":2)"));
  const std::string text = get("/metrics").body;
  EXPECT_THAT(text, HasSubstr(R"(cortex_requests_total{code="200",endpoint="/v1/chat/completions",model="chat"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(cortex_finished_total{model="chat",reason="stop"} 2)"));
  EXPECT_THAT(text, HasSubstr(R"(cortex_generation_tokens_total{model="chat"} 8)"));
}

}  // namespace
}  // namespace cortex
