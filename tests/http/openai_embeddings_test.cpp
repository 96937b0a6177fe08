#include <gmock/gmock.h>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

const std::string kPath = "/v1/embeddings";

class OpenaiEmbeddingsTest : public FrontFixture {
 protected:
  OpenaiEmbeddingsTest() {
    engine_.set_status(ready_status());
    front_ = make(engine_, {}, 20);
  }
};

TEST_F(OpenaiEmbeddingsTest, AReplyHasTheDocumentedShape) {
  // The engine counts the ids modulo 8: 3 and 4 once each, so each is the square root of a half.
  const RawReply reply = post(kPath, R"({"model":"embed","input":[3,4]})");
  EXPECT_EQ(
      reply.body,
      R"({"object":"list","data":[{"object":"embedding","index":0,"embedding":[0,0,0,0.70710677,0.70710677,0,0,0]}],)"
      R"("model":"embed","usage":{"prompt_tokens":2,"total_tokens":2}})");
  EXPECT_EQ(reply.headers.at("x-cached-texts"), "0");
  const RawReply again = post("/embeddings", R"({"input":[3,4]})");
  EXPECT_EQ(again.body, reply.body);
  EXPECT_EQ(again.headers.at("x-cached-texts"), "1");
}

TEST_F(OpenaiEmbeddingsTest, Base64IsTheSameNumbersLittleEndian) {
  const RawReply reply = post(kPath, R"({"input":[3],"encoding_format":"base64"})");
  // Three zeros, one 1.0f (00 00 80 3f), four zeros.
  EXPECT_THAT(reply.body, HasSubstr(R"("embedding":"AAAAAAAAAAAAAAAAAACAPwAAAAAAAAAAAAAAAAAAAAA=")"));
}

TEST_F(OpenaiEmbeddingsTest, InputHasFourShapes) {
  EXPECT_THAT(post(kPath, R"({"input":"Paris"})").body, HasSubstr(R"("index":0)"));
  EXPECT_THAT(post(kPath, R"({"input":["a","b"]})").body, HasSubstr(R"("index":1)"));
  EXPECT_THAT(engine_.encode_requests().back().texts, SizeIs(2));
  post(kPath, R"({"input":[1,2]})");
  EXPECT_THAT(engine_.encode_requests().back().texts, ElementsAre(ElementsAre(1, 2)));
  post(kPath, R"({"input":[[1,3],[3]]})");
  EXPECT_THAT(engine_.encode_requests().back().texts, ElementsAre(ElementsAre(1, 3), ElementsAre(3)));
}

TEST_F(OpenaiEmbeddingsTest, TooLongATextIsCutWhereThatIsAllowed) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "word ";
  const std::string input = R"({"input":")" + text + "\"";
  const RawReply refused = post(kPath, input + "}");
  EXPECT_EQ(refused.status, 400);
  EXPECT_THAT(refused.body, HasSubstr(R"("param":"input","code":"context_length_exceeded")"));
  const RawReply cut = post(kPath, input + R"(,"truncate":true})");
  EXPECT_EQ(cut.status, 200);
  EXPECT_EQ(cut.headers.at("x-truncated-inputs"), "1");
}

TEST_F(OpenaiEmbeddingsTest, AsManyInputsAsTheLimitButNoMore) {
  std::string inputs = R"("a")";
  for (int i = 1; i < 2048; ++i) inputs += R"(,"a")";
  EXPECT_EQ(post(kPath, R"({"input":[)" + inputs + "]}").status, 200);
  const RawReply reply = post(kPath, R"({"input":[)" + inputs + R"(,"a"]})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, HasSubstr("2049 > maximum allowed batch size 2048"));
}

TEST_F(OpenaiEmbeddingsTest, RefusesInOpenaisShape) {
  struct Row {
    std::string body;
    const char* code;
    const char* param;
    int status = 400;
  };
  const auto ask = [](const std::string& fields) { return R"({"input":"a",)" + fields + "}"; };
  const std::vector<Row> table = {
      {"{}", "missing_required_parameter", "input"},
      {R"({"input":null})", "missing_required_parameter", "input"},
      {R"({"input":1})", "invalid_type", "input"},
      {R"({"input":{}})", "invalid_type", "input"},
      {R"({"input":""})", "empty_input", "input"},
      {R"({"input":[]})", "empty_input", "input"},
      {R"({"input":[""]})", "empty_input", "input[0]"},
      {R"({"input":["a",1]})", "invalid_type", "input[1]"},
      {R"({"input":[1.5]})", "invalid_type", "input[0]"},
      {R"({"input":[100000000]})", "invalid_token_id", "input"},
      {R"({"input":[[1],[-1]]})", "invalid_token_id", "input[1]"},
      {ask(R"("encoding_format":"hex")"), "invalid_value", "encoding_format"},
      {ask(R"("encoding_format":1)"), "invalid_type", "encoding_format"},
      {ask(R"("dimensions":0)"), "invalid_value", "dimensions"},
      {ask(R"("dimensions":-1)"), "invalid_value", "dimensions"},
      {ask(R"("dimensions":65)"), "invalid_value", "dimensions"},
      {ask(R"("dimensions":32)"), "invalid_value", "dimensions"},
      {ask(R"("truncate":1)"), "invalid_type", "truncate"},
      {ask(R"("model":"chat")"), "model_not_capable", "model"},
      {ask(R"("model":"none")"), "model_not_found", "model", 404},
  };
  for (const auto& row : table) {
    const RawReply reply = post(kPath, row.body);
    EXPECT_EQ(reply.status, row.status) << row.body << reply.body;
    EXPECT_THAT(reply.body, StartsWith(R"({"error":{"message":")"));
    EXPECT_THAT(reply.body, HasSubstr(fmt::format(R"("param":"{}","code":"{}")", row.param, row.code))) << row.body;
  }
  EXPECT_THAT(engine_.encode_requests(), SizeIs(0));
}

TEST_F(OpenaiEmbeddingsTest, AFailureOfTheEngineIsToldInItsShape) {
  EchoEngine broken({.models = {"embed"}, .fail_encode = [](const EncodeRequest&) {
                       return std::optional(Error(ErrorCode::numerical_error, "not a number"));
                     }});
  broken.set_status(ready_status());
  front_ = make(broken, {}, 20);
  const RawReply reply = post(kPath, R"({"input":"a"})");
  EXPECT_EQ(reply.status, 500);
  EXPECT_THAT(reply.body, EndsWith(R"("type":"server_error","param":null,"code":"numerical_error"}})"));
  EXPECT_EQ(reply.headers.at("x-should-retry"), "false");
  front_->stop();
}

}  // namespace
}  // namespace cortex
