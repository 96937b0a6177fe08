#include <gmock/gmock.h>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

class OpenaiModelsTest : public FrontFixture {};

TEST_F(OpenaiModelsTest, TheListHoldsEveryModel) {
  front_ = make(engine_);  // though none is ready
  const RawReply reply = get("/v1/models");
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(
      reply.body,
      MatchesRegex(
          R"(\{"object":"list","data":\[\{"id":"chat","object":"model","created":[0-9]+,)"
          R"("owned_by":"cortex","root":"chat","parent":null,"max_model_len":512,)"
          R"("context_length":512,"capabilities":\["chat","tools","json_schema","completion"\]\},\{"id":"embed".*\]\})"));
  EXPECT_THAT(reply.body, HasSubstr(R"("context_length":320,"capabilities":["embedding","rerank"])"));
}

TEST_F(OpenaiModelsTest, OneModelIsAskedForByItsName) {
  const Models slashed(real_file_system(), {{"tiny/chat", test_data("models/llama").string()}});
  front_ = std::make_unique<Front>(FrontOptions{}, slashed, engine_, system_clock());
  const RawReply reply = get("/v1/models/tiny/chat");
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(reply.body, StartsWith(R"({"id":"tiny/chat","object":"model",)"));
  EXPECT_EQ(get("/v1/models/tiny%2Fchat").body, reply.body);
  const RawReply unknown = get("/v1/models/other");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_THAT(unknown.body, StartsWith(R"({"error":{"message":"model: there is no model \"other\"",)"));
  EXPECT_THAT(unknown.body, HasSubstr(R"("param":"model","code":"model_not_found")"));
  front_.reset();
}

}  // namespace
}  // namespace cortex
