#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::HasSubstr;

class ModelControlTest : public FrontFixture {
 protected:
  ModelControlTest() { engine_.set_status(ready_status()); }

  void serve(FrontOptions options = quiet_options()) {
    front_ = std::make_unique<Front>(std::move(options), models(), engine_, system_clock());
  }
  RawReply load(const std::string& model) { return post("/models/load", R"({"model":")" + model + "\"}"); }
  RawReply unload(const std::string& model) { return post("/models/unload", R"({"model":")" + model + "\"}"); }
};

TEST_F(ModelControlTest, ModelsGoAndComeBack) {
  serve();
  const RawReply gone = unload("chat");
  EXPECT_EQ(gone.status, 200) << gone.body;
  EXPECT_EQ(gone.body, R"({"model":"chat","state":"unloaded"})");
  const RawReply health = get("/healthz");
  EXPECT_EQ(health.status, 200) << "a model that its first use brings back is no reason";
  EXPECT_THAT(health.body, HasSubstr(R"("id":"chat","kind":"chat","state":"unloaded")"));
  const RawReply back = load("chat");
  EXPECT_EQ(back.status, 200) << back.body;
  EXPECT_EQ(back.body, R"({"model":"chat","state":"ready"})");
  EXPECT_EQ(load("chat").body, back.body) << "it is there already";
}

TEST_F(ModelControlTest, WhatIsNoModelIsRefused) {
  serve();
  for (const char* path : {"/models/load", "/models/unload"}) {
    EXPECT_EQ(post(path, R"({"model":"nobody"})").status, 404);
    EXPECT_THAT(post(path, R"({"model":"nobody"})").body, HasSubstr("model_not_found"));
    EXPECT_THAT(post(path, R"({"model":"../x"})").body, HasSubstr("invalid_value"));
    EXPECT_EQ(post(path, R"({"model":7})").status, 422);
    EXPECT_THAT(post(path, "{}").body, HasSubstr("missing_required_parameter"));
    EXPECT_EQ(get(path).status, 405);
  }
}

TEST_F(ModelControlTest, OneThatLoadsIsLeftAlone) {
  EngineStatus status = ready_status();
  status.models[0].state = ModelState::loading;
  status.models[0].progress = 0.5;
  engine_.set_status(status);
  serve();
  for (const RawReply& reply : {load("chat"), unload("chat")}) {
    EXPECT_EQ(reply.status, 409) << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(R"("code":"model_loading")"));
    EXPECT_EQ(reply.headers.at("retry-after"), "1");
  }
  EXPECT_EQ(unload("embed").status, 200);
}

TEST_F(ModelControlTest, WantsAnAdminKeyWhereThereAreKeys) {
  FrontOptions options = quiet_options();
  options.listener.api_keys = {"a-key"};
  options.listener.admin_keys = {"an-admin-key"};
  serve(std::move(options));
  const std::string body = R"({"model":"chat"})";
  for (const char* path : {"/models/load", "/models/unload"}) {
    EXPECT_EQ(post(path, body).status, 401);
    const RawReply refused = post(path, body, "x-api-key: a-key\r\n");
    EXPECT_EQ(refused.status, 403);
    EXPECT_THAT(refused.body, HasSubstr(R"("code":"insufficient_scope")"));
    EXPECT_EQ(post(path, body, "x-api-key: an-admin-key\r\n").status, 200);
  }
}

TEST_F(ModelControlTest, TellsWhatAModelWouldTake) {
  FrontOptions options = quiet_options();
  std::vector<MemoryQuestion> asked;
  options.estimate = [&](const MemoryQuestion& question) {
    asked.push_back(question);
    if (question.model == "nobody") throw Error(ErrorCode::model_not_found, "model: there is no model", "model");
    MemoryEstimate estimate;
    estimate.fits = true;
    estimate.weight_bytes = 1000;
    estimate.kv_bytes = 200;
    estimate.activation_bytes = 30;
    estimate.grammar_bytes = 500;
    estimate.cache_bytes = 4;
    estimate.budget_bytes = 5000;
    estimate.weights = "q4";
    estimate.kv = "bf16";
    estimate.blocks = 12;
    estimate.streaming = true;
    estimate.advice = {"--memory-budget 9MiB"};
    return estimate;
  };
  serve(std::move(options));
  const RawReply reply = post("/estimate", R"({"model":"chat","context_length":8192,"sequences":4})");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body,
            R"({"fits":true,"bytes":{"weights":1000,"kv":200,"activations":30,"grammars":500,"caches":4,)"
            R"("total":1734},"budget_bytes":5000,"plan":{"weights":"q4","kv":"bf16","blocks":12,"streaming":true},)"
            R"("advice":["--memory-budget 9MiB"]})");
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].model, "chat");
  EXPECT_EQ(asked[0].context_tokens, 8192);
  EXPECT_EQ(asked[0].sequences, 4);
  EXPECT_EQ(post("/estimate", R"({"model":"chat"})").status, 200);
  EXPECT_FALSE(asked[1].context_tokens || asked[1].sequences);
  EXPECT_EQ(post("/estimate", R"({"model":"nobody"})").status, 404);
  EXPECT_EQ(asked.size(), 3u);

  for (const char* body : {"{}", R"({"model":""})", R"({"model":7})", R"({"model":"chat","context_length":0})",
                           R"({"model":"chat","context_length":1.5})", R"({"model":"chat","sequences":0})",
                           R"({"model":"chat","sequences":4097})"}) {
    EXPECT_EQ(post("/estimate", body).status, 422) << body;
  }
  EXPECT_EQ(post("/estimate", R"({"model":")" + std::string(1025, 'a') + "\"}").status, 422);
  EXPECT_EQ(asked.size(), 3u) << "what is wrong is not asked";
}

}  // namespace
}  // namespace cortex
