// Tools, formats, reasoning and predictions, as /chat and /v1/chat/completions take and tell them.
#include <gmock/gmock.h>

#include <filesystem>

#include "fakes/temporary_folder.h"
#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kWeather =
    R"({"type":"function","function":{"name":"get_weather","description":"d","parameters":)"
    R"({"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}})";
constexpr const char* kCall =
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";

class ToolsTest : public FrontFixture {
 protected:
  ToolsTest() {
    scripted_.set_status(ready_status());
    front_ = make(scripted_, {}, 20);
  }

  void says(const std::string& text) {
    reply_ = models().find("chat", Task::chat).tokenizer->encode(text, {.add_special_tokens = false});
    reply_.push_back(kEndOfTurn);
  }

  static std::string body(const std::string& more) {
    return fmt::format(R"({{"messages":[{{"role":"user","content":"hi"}}],{}}})", more);
  }
  std::string openai(const std::string& more) { return post("/v1/chat/completions", body(more)).body; }
  std::string native(const std::string& more) { return post("/chat", body(more)).body; }

  std::string prompt() const {
    return models().find("chat", Task::chat).tokenizer->decode(scripted_.generate_requests().back().prompt, false);
  }
  std::optional<Grammar> grammar() const { return scripted_.generate_requests().back().grammar; }

  std::optional<Error> refusal_;
  EchoEngine scripted_{{.models = {"chat", "embed"},
                        .reply = [this](const GenerateRequest&) { return reply_; },
                        .timings =
                            [](const GenerateRequest& request, GenerateTimings* timings) {
                              timings->draft_tokens = static_cast<int>(request.prediction.size());
                              timings->draft_accepted = timings->draft_tokens / 2;
                            },
                        .fail_generate = [this](const GenerateRequest&) { return refusal_; }}};
};

TEST_F(ToolsTest, AFormatBecomesAGrammarWithTheVocabulary) {
  says("{}");
  openai(R"("response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,
            "schema":{"type":"object","properties":{"z":{"type":"integer"},"a":{"type":"string"}}}}})");
  ASSERT_TRUE(grammar());
  EXPECT_EQ(grammar()->syntax, GrammarSyntax::json_schema);
  EXPECT_EQ(grammar()->text, R"({"type":"object","properties":{"z":{"type":"integer"},"a":{"type":"string"}}})");
  const TokenTexts& texts = *grammar()->vocabulary;
  const Tokenizer& tokenizer = *models().find("chat", Task::chat).tokenizer;
  ASSERT_EQ(texts.special.size(), static_cast<std::size_t>(tokenizer.vocabulary_size()));
  ASSERT_EQ(texts.offsets.size(), texts.special.size() + 1);
  EXPECT_EQ(texts.bytes.size(), texts.offsets.back());
  EXPECT_EQ(texts.special[kEndOfTurn], 1);
  EXPECT_THAT(texts.ends, testing::Contains(kEndOfTurn));
  for (TokenId id = 0; id < tokenizer.vocabulary_size(); ++id) {
    const auto at = static_cast<std::size_t>(id);
    const std::string text(texts.bytes.begin() + texts.offsets[at], texts.bytes.begin() + texts.offsets[at + 1]);
    ASSERT_EQ(text, tokenizer.token_bytes(id));
  }
  const auto before = grammar()->vocabulary;
  native(R"("response_format":{"type":"json_object"})");
  EXPECT_EQ(grammar()->text, R"({"type":"object"})");
  EXPECT_EQ(grammar()->vocabulary, before);
  native(R"("response_format":{"type":"grammar","syntax":"regex","definition":"a+"})");
  EXPECT_EQ(grammar()->syntax, GrammarSyntax::regex);
  openai(R"("response_format":{"type":"grammar","syntax":"lark","definition":"start: \"a\""})");
  EXPECT_EQ(grammar()->syntax, GrammarSyntax::lark);
  EXPECT_EQ(grammar()->text, "start: \"a\"");
  openai(R"("response_format":{"type":"text"})");
  EXPECT_FALSE(grammar());
}

TEST_F(ToolsTest, TheEnginesRefusalIsAPlainAnswerOfStreamsToo) {
  refusal_ = Error(ErrorCode::unsupported_schema, "properties.x: \"if\" can't be kept to");
  const std::string format = R"("response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{}}})";
  for (const char* stream : {"false", "true"}) {
    const std::string fields = fmt::format(R"({},"stream":{})", format, stream);
    const RawReply plain = post("/v1/chat/completions", body(fields));
    EXPECT_EQ(plain.status, 400);
    EXPECT_THAT(plain.body, HasSubstr(R"(response_format.json_schema.schema: properties.x: )"));
    EXPECT_THAT(plain.body, HasSubstr(R"("param":"response_format.json_schema.schema","code":"unsupported_schema")"));
    EXPECT_EQ(post("/chat", body(fields)).status, 422);
  }
}

TEST_F(ToolsTest, ToolsStandInThePromptAndTheirCallsInTheReply) {
  says(kCall);
  for (const bool is_native : {true, false}) {
    const std::string fields = fmt::format(R"("tools":[{}])", kWeather);
    const std::string reply = is_native ? native(fields) : openai(fields);
    EXPECT_THAT(prompt(), HasSubstr("\"name\": \"get_weather\""));
    EXPECT_FALSE(grammar());
    EXPECT_THAT(reply, HasSubstr(R"("role":"assistant","content":null)"));
    EXPECT_THAT(reply,
                testing::ContainsRegex(R"("tool_calls":\[\{"id":"call_[A-Za-z0-9]{24}","type":"function","function":)"
                                       R"(\{"name":"get_weather","arguments":"\{\\"city\\": \\"Rome\\"\}"\}\}\])"));
    EXPECT_THAT(reply, HasSubstr(R"("finish_reason":"tool_calls")"));
  }
}

TEST_F(ToolsTest, AStreamTellsTheNameThenTheArguments) {
  says(std::string("I look.\n") + kCall);
  for (const char* path : {"/chat", "/v1/chat/completions"}) {
    const RawReply reply =
        post(path, body(fmt::format(R"("tools":[{}],"stream":true,"tool_choice":"auto")", kWeather)));
    const std::size_t role = reply.body.find(R"("delta":{"role":"assistant","content":""})");
    const std::size_t name = reply.body.find(R"("delta":{"tool_calls":[{"index":0,"id":"call_)");
    const std::size_t arguments = reply.body.find(R"("delta":{"tool_calls":[{"index":0,"function":{"arguments":"{)");
    const std::size_t end = reply.body.find(R"("finish_reason":"tool_calls")");
    EXPECT_LT(role, name) << reply.body;
    EXPECT_LT(name, arguments);
    EXPECT_LT(arguments, end);
    EXPECT_NE(end, std::string::npos);
    EXPECT_THAT(reply.body, HasSubstr(R"("type":"function","function":{"name":"get_weather","arguments":""}})"));
    EXPECT_THAT(reply.body, Not(HasSubstr("tool_call>")));
  }
}

TEST_F(ToolsTest, WhatIsNoCallStaysContent) {
  says("<tool_call>\n{\"name\": \"other\", \"arguments\": {}}\n</tool_call>");
  const std::string reply = openai(fmt::format(R"("tools":[{}])", kWeather));
  EXPECT_THAT(reply, HasSubstr(R"("content":"<tool_call>\n{\"name\": \"other\")"));
  EXPECT_THAT(reply, HasSubstr(R"("finish_reason":"stop")"));
  says(kCall);
  EXPECT_THAT(openai(fmt::format(R"("tools":[{}],"tool_choice":"none")", kWeather)),
              HasSubstr(R"("content":"<tool_call>)"));
  EXPECT_THAT(prompt(), Not(HasSubstr("get_weather")));
}

TEST_F(ToolsTest, ForcedCallsHaveAGrammar) {
  says(kCall);
  for (
      const char* choice :
      {R"("required")", R"({"type":"function","function":{"name":"get_weather"}})",
       R"({"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"get_weather"}}]}})"}) {
    const std::string reply = openai(fmt::format(R"("tools":[{}],"tool_choice":{})", kWeather, choice));
    ASSERT_TRUE(grammar()) << reply;
    EXPECT_EQ(grammar()->syntax, GrammarSyntax::lark);
    EXPECT_THAT(grammar()->text, HasSubstr(R"("required":["city"])"));
    EXPECT_THAT(reply, HasSubstr(R"("finish_reason":"tool_calls")"));
  }
}

TEST_F(ToolsTest, OneCallIsAllWhereOneIsWanted) {
  says(std::string(kCall) + "\n" + kCall);
  const std::string both = openai(fmt::format(R"("tools":[{}])", kWeather));
  EXPECT_NE(both.find("call_", both.find("call_") + 20), std::string::npos);
  const std::string one = openai(fmt::format(R"("tools":[{}],"parallel_tool_calls":false)", kWeather));
  const std::string named = openai(
      fmt::format(R"("tools":[{}],"tool_choice":{{"type":"function","function":{{"name":"get_weather"}}}})", kWeather));
  for (const std::string& reply : {one, named}) {
    EXPECT_THAT(reply, HasSubstr(R"("finish_reason":"tool_calls")"));
    EXPECT_EQ(reply.find(R"("id":"call_)", reply.find(R"("id":"call_)") + 1), std::string::npos);
  }
}

TEST_F(ToolsTest, StopStringsCountInContentAlone) {
  says(std::string("Rome? ") + kCall);
  const std::string reply = openai(fmt::format(R"("tools":[{}],"stop":["Rome\""])", kWeather));
  EXPECT_THAT(reply, HasSubstr(R"("finish_reason":"tool_calls")"));
  EXPECT_THAT(openai(fmt::format(R"("tools":[{}],"stop":["Rome"])", kWeather)), HasSubstr(R"("content":"","refusal")"));
}

TEST_F(ToolsTest, ResultsAndCallsReachTheTemplate) {
  says("Sunny.");
  const std::string calls =
      R"({"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":)"
      R"({"name":"get_weather","arguments":"{\"city\":\"Rome\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"warm"})";
  const RawReply reply =
      post("/v1/chat/completions",
           fmt::format(R"({{"messages":[{{"role":"user","content":"hi"}},{}],"tools":[{}]}})", calls, kWeather));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_THAT(prompt(),
              HasSubstr("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\":\"Rome\"}}\n</tool_call>"));
  EXPECT_THAT(prompt(), HasSubstr("<tool_response>\nwarm\n</tool_response>"));
}

TEST_F(ToolsTest, AConversationKeepsCallsAndResults) {
  says(kCall);
  const RawReply first = post("/chat", body(fmt::format(R"("tools":[{}])", kWeather)));
  const auto id_at = [](const std::string& text, const std::string& prefix) {
    const auto begin = text.find(prefix);
    return text.substr(begin, text.find('"', begin) - begin);
  };
  const std::string conversation = id_at(first.body, "conv_");
  const std::string call = id_at(first.body, "call_");
  says("Warm.");
  const RawReply second = post(
      "/chat",
      fmt::format(
          R"({{"conversation_id":"{}","tools":[{}],"messages":[{{"role":"tool","tool_call_id":"{}","content":"25"}}]}})",
          conversation, kWeather, call));
  ASSERT_EQ(second.status, 200) << second.body;
  EXPECT_THAT(prompt(), HasSubstr(kCall));
  const std::string stored = get("/chat/" + conversation).body;
  EXPECT_THAT(stored, HasSubstr(fmt::format(R"("content":null,"tool_calls":[{{"id":"{}","type":"function")", call)));
  EXPECT_THAT(stored, HasSubstr(fmt::format(R"({{"role":"tool","content":"25","tool_call_id":"{}"}})", call)));
  const RawReply wrong =
      post("/chat",
           fmt::format(
               R"({{"conversation_id":"{}","messages":[{{"role":"tool","tool_call_id":"call_no","content":"25"}}]}})",
               conversation));
  EXPECT_EQ(wrong.status, 422);
  EXPECT_THAT(wrong.body, HasSubstr(R"("param":"messages[0].tool_call_id")"));
}

TEST_F(ToolsTest, PredictionsAreDraftsAndAreCounted) {
  says("abc");
  for (const char* content :
       {R"("over the moon")", R"([{"type":"text","text":"over the"},{"type":"text","text":" moon"}])"}) {
    for (const bool is_native : {true, false}) {
      const std::string fields = fmt::format(R"("prediction":{{"type":"content","content":{}}})", content);
      const std::string reply = is_native ? native(fields) : openai(fields);
      const auto prediction = scripted_.generate_requests().back().prediction;
      EXPECT_EQ(models().find("chat", Task::chat).tokenizer->decode(prediction, false), "over the moon");
      const auto accepted = prediction.size() / 2;
      EXPECT_THAT(reply, HasSubstr(fmt::format(R"("accepted_prediction_tokens":{},"rejected_prediction_tokens":{})",
                                               accepted, prediction.size() - accepted)));
    }
  }
}

// A model that reasons: the tiny one's files beside a template that knows <think>.
class ReasoningTest : public FrontFixture {
 protected:
  ReasoningTest() {
    front_ = std::make_unique<Front>(quiet_options(), thinking(), thinking_engine_, system_clock());
    thinking_engine_.set_status(ready_status());
    reply_ = thinking()
                 .find("chat", Task::chat)
                 .tokenizer->encode("<think>\nOne.\nTwo.\n</think>\n\nThree.", {.add_special_tokens = false});
    reply_.push_back(kEndOfTurn);
  }

  static const Models& thinking() {
    static const TemporaryFolder folder;
    static const Models models = [] {
      for (const auto& file : std::filesystem::directory_iterator(test_data("models/llama"))) {
        std::filesystem::copy_file(file.path(), folder.path() / file.path().filename());
      }
      folder.write("chat_template.jinja",
                   "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.reasoning_content %} "
                   "({{ m.reasoning_content }}){% endif %}{{ '\\n' }}{% endfor %}{# <think></think> #}");
      return Models(real_file_system(), {{"chat", folder.path().string()}});
    }();
    return models;
  }

  EchoEngine thinking_engine_{{.models = {"chat"}, .reply = [this](const GenerateRequest&) { return reply_; }}};
};

TEST_F(ReasoningTest, IsToldBesideTheContent) {
  const std::string ask = R"({"messages":[{"role":"user","content":"hi"}])";
  for (const char* path : {"/chat", "/v1/chat/completions"}) {
    const std::string whole = post(path, ask + "}").body;
    EXPECT_THAT(whole, HasSubstr(R"("content":"Three.","reasoning_content":"One.\nTwo.","reasoning":"One.\nTwo.")"));
    EXPECT_THAT(whole, Not(HasSubstr(R"("reasoning_tokens":0)")));
    EXPECT_THAT(whole, Not(HasSubstr("think>")));
    const std::string stream = post(path, ask + R"(,"stream":true})").body;
    EXPECT_THAT(stream, HasSubstr(R"("delta":{"reasoning_content":"O)"));
    EXPECT_THAT(stream, Not(HasSubstr("think>")));
    EXPECT_LT(stream.rfind("reasoning_content"), stream.find(R"("delta":{"content":"T)")) << stream;
  }
}

TEST_F(ReasoningTest, OfEarlierMessagesReachesTheTemplate) {
  for (const char* name : {"reasoning", "reasoning_content"}) {
    post("/v1/chat/completions",
         fmt::format(
             R"({{"messages":[{{"role":"assistant","content":"a","{}":"because"}},{{"role":"user","content":"b"}}]}})",
             name));
    EXPECT_EQ(thinking()
                  .find("chat", Task::chat)
                  .tokenizer->decode(thinking_engine_.generate_requests().back().prompt, false),
              "assistant: a (because)\nuser: b\n");
  }
}

struct Refusal {
  std::string fields;
  const char* code;
  const char* param;
};

TEST_F(ToolsTest, RefusesWhatIsWrong) {
  const auto tool = [](const std::string& function) {
    return R"("tools":[{"type":"function","function":)" + function + "}]";
  };
  const std::string weather = fmt::format(R"("tools":[{}])", kWeather);
  std::string many = R"("tools":[)";
  for (int i = 0; i < 129; ++i)
    many += fmt::format(R"({}{{"type":"function","function":{{"name":"f{}"}}}})", i ? "," : "", i);
  const std::string deep = R"({"type":"object","properties":{"a":{"type":"array","items":{"type":"stirng"}}}})";
  const std::vector<Refusal> table = {
      {many + "]", "invalid_value", "tools"},
      {fmt::format(R"("tools":[{},{}])", kWeather, kWeather), "invalid_value", "tools[1].function.name"},
      {R"("tools":[{"type":"web_search"}])", "invalid_value", "tools[0].type"},
      {R"("tools":[1])", "invalid_type", "tools[0]"},
      {tool(R"({"name":"get weather"})"), "invalid_value", "tools[0].function.name"},
      {tool(R"({"name":""})"), "invalid_value", "tools[0].function.name"},
      {tool(R"({})"), "missing_required_parameter", "tools[0].function.name"},
      {tool(R"({"name":"f","strict":1})"), "invalid_type", "tools[0].function.strict"},
      {tool(R"({"name":"f","parameters":[]})"), "invalid_schema", "tools[0].function.parameters"},
      {tool(R"({"name":"f","parameters":{"type":"array"}})"), "invalid_schema", "tools[0].function.parameters.type"},
      {tool(R"({"name":"f","parameters":)" + deep + "}"), "invalid_schema",
       "tools[0].function.parameters.properties.a.items.type"},
      {tool(R"({"name":"f","parameters":{"properties":[]}})"), "invalid_schema",
       "tools[0].function.parameters.properties"},
      {tool(R"({"name":"f","parameters":{"$ref":"http://a/b"}})"), "unsupported_schema",
       "tools[0].function.parameters.$ref"},
      {weather + R"(,"tool_choice":"sometimes")", "invalid_value", "tool_choice"},
      {weather + R"(,"tool_choice":1)", "invalid_type", "tool_choice"},
      {weather + R"(,"tool_choice":{"type":"function","function":{"name":"other"}})", "invalid_value",
       "tool_choice.function.name"},
      {weather + R"(,"tool_choice":{"type":"custom"})", "invalid_value", "tool_choice.type"},
      {weather + R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"none","tools":[]}})",
       "invalid_value", "tool_choice.allowed_tools.mode"},
      {weather + R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}})",
       "invalid_value", "tool_choice.allowed_tools.tools"},
      {R"("tool_choice":"required")", "invalid_value", "tool_choice"},
      {R"("parallel_tool_calls":"yes")", "invalid_type", "parallel_tool_calls"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":[]}})", "invalid_schema",
       "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":{"type":"text"}}})", "invalid_schema",
       "response_format.json_schema.schema.type"},
      {R"("response_format":{"type":"grammar","syntax":"gbnf","definition":"x"})", "invalid_value",
       "response_format.syntax"},
      {R"("response_format":{"type":"grammar","syntax":"lark","definition":""})", "invalid_grammar",
       "response_format.definition"},
      {R"("response_format":{"type":"grammar","syntax":"lark"})", "missing_required_parameter",
       "response_format.definition"},
      {R"("prediction":"x")", "invalid_type", "prediction"},
      {R"("prediction":{"type":"text","content":"x"})", "invalid_value", "prediction.type"},
      {R"("prediction":{"type":"content","content":1})", "invalid_type", "prediction.content"},
  };
  for (const auto& row : table) {
    const RawReply plain = post("/v1/chat/completions", body(row.fields));
    EXPECT_EQ(plain.status, 400) << row.fields << plain.body;
    EXPECT_THAT(plain.body, HasSubstr(fmt::format(R"("param":"{}","code":"{}")", row.param, row.code))) << row.fields;
    const RawReply own = post("/chat", body(row.fields));
    EXPECT_EQ(own.status, 422) << row.fields << own.body;
    EXPECT_THAT(own.body, HasSubstr(fmt::format(R"("code":"{}","param":"{}")", row.code, row.param))) << row.fields;
  }
  for (const char* field :
       {R"("tools":[{"type":"function","function":{"name":"f"},"x":1}])",
        R"("tools":[{"type":"function","function":{"name":"f","x":1}}])", R"("response_format":{"type":"text","x":1})",
        R"("prediction":{"type":"content","content":"a","x":1})",
        R"("prediction":{"type":"content","content":[{"type":"text","text":"a","x":1}]})"}) {
    EXPECT_EQ(post("/chat", body(field)).status, 422) << field;
    EXPECT_EQ(post("/v1/chat/completions", body(field)).status, 200) << field;
  }
}

TEST_F(ToolsTest, UnknownFieldsDeepInChoicesAndMessagesAreRefusedByTheNativeDialect) {
  says("ok");
  for (const char* choice : {R"({"type":"function","function":{"name":"get_weather"},"x":1})",
                             R"({"type":"function","function":{"name":"get_weather","x":1}})",
                             R"({"type":"allowed_tools","x":1,"allowed_tools":{"mode":"auto","tools":[
                                 {"type":"function","function":{"name":"get_weather"}}]}})",
                             R"({"type":"allowed_tools","allowed_tools":{"mode":"auto","x":1,"tools":[
                                 {"type":"function","function":{"name":"get_weather"}}]}})",
                             R"({"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[
                                 {"type":"function","function":{"name":"get_weather","x":1}}]}})"}) {
    const std::string asked = body(fmt::format(R"("tools":[{}],"tool_choice":{})", kWeather, choice));
    EXPECT_EQ(post("/chat", asked).status, 422) << choice;
    EXPECT_EQ(post("/v1/chat/completions", asked).status, 200) << choice;
  }
  for (const char* message : {R"({"role":"user","content":[{"type":"text","text":"a","x":1}]})",
                              R"({"role":"assistant","tool_calls":[{"id":"1","type":"function",
                                  "function":{"name":"f","arguments":"{}","x":1}}]})"}) {
    const std::string asked = fmt::format(R"({{"messages":[{}]}})", message);
    EXPECT_EQ(post("/chat", asked).status, 422) << message;
    EXPECT_EQ(post("/v1/chat/completions", asked).status, 200) << message;
  }
}

TEST_F(ToolsTest, AnAssistantsContentMayBeNull) {
  says("ok");
  const auto status = [&](const char* role) {
    return post("/v1/chat/completions",
                fmt::format(R"({{"messages":[{{"role":"{}","content":null}},{{"role":"user","content":"a"}}]}})", role))
        .status;
  };
  EXPECT_EQ(status("assistant"), 200);
  EXPECT_EQ(status("user"), 400);
}

TEST_F(ToolsTest, ATypeOfNullIsNoType) {
  says("ok");
  openai(R"("tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":
            {"type":null,"properties":{"a":{"type":"integer"}}}}}])");
  ASSERT_TRUE(grammar());
  EXPECT_THAT(grammar()->text, HasSubstr(R"({"type":"object","properties":{"a":{"type":"integer"}}})"));
}

TEST_F(ToolsTest, RefusesMessagesOfToolsThatDoNotFit) {
  struct Row {
    const char* message;
    const char* code;
    const char* param;
  };
  for (const Row& row : std::vector<Row>{
           {R"({"role":"tool","content":"x","tool_call_id":"call_1"})", "invalid_value", "messages[1].tool_call_id"},
           {R"({"role":"tool","content":"x"})", "missing_required_parameter", "messages[1].tool_call_id"},
           {R"({"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f"}}]})",
            "missing_required_parameter", "messages[1].tool_calls[0].function.arguments"},
           {R"({"role":"assistant","tool_calls":[{"id":"1","type":"custom"}]})", "invalid_value",
            "messages[1].tool_calls[0].type"},
           {R"({"role":"user","content":"x","tool_calls":[{"id":"1"}]})", "invalid_value", "messages[1].tool_calls"}}) {
    const RawReply reply = post("/v1/chat/completions",
                                fmt::format(R"({{"messages":[{{"role":"user","content":"hi"}},{}]}})", row.message));
    EXPECT_EQ(reply.status, 400) << row.message << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(fmt::format(R"("param":"{}","code":"{}")", row.param, row.code)));
  }
}

}  // namespace
}  // namespace cortex
