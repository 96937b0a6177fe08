#include "http/front.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class FrontTest : public FrontFixture {};

const std::string kHi = R"({"messages":[{"role":"user","content":"hi"}]})";

TEST_F(FrontTest, AChatIsAnsweredInTheDocumentedShape) {
  engine_.set_status(ready_status());
  front_ = make(engine_);
  const RawReply reply = post("/chat", kHi);
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  for (const char* part :
       {R"("id":"chat-)", R"("object":"chat")", R"("model":"chat")", R"("conversation_id":"conv_)",
        R"("message":{"role":"assistant","content":)", R"("finish_reason":"stop","logprobs":null)",
        R"("completion_tokens":4)", R"("cached_tokens":0)", R"("timings":{"queue_ms":)", R"("draft_accepted":0)"}) {
    EXPECT_THAT(reply.body, HasSubstr(part));
  }
}

TEST_F(FrontTest, AStreamBeginsWithTheRoleAndEndsWithDone) {
  engine_.set_status(ready_status());
  front_ = make(engine_);
  const RawReply reply = post("/chat", R"({"messages":[{"role":"user","content":"hi"}],"stream":true})");
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(reply.complete);
  EXPECT_EQ(reply.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(reply.headers.at("cache-control"), "no-store");
  EXPECT_EQ(reply.headers.at("x-accel-buffering"), "no");
  const auto found = events(reply.body);
  ASSERT_GE(found.size(), 3u);
  EXPECT_THAT(found.front(), HasSubstr(R"("delta":{"role":"assistant","content":""},"finish_reason":null)"));
  EXPECT_THAT(found[found.size() - 2], HasSubstr(R"("delta":{},"finish_reason":"stop","usage":{)"));
  EXPECT_EQ(found.back(), "data: [DONE]");
}

TEST_F(FrontTest, AnErrorBeforeTheFirstTokenIsAPlainAnswerEvenForAStream) {
  EchoEngine engine({.models = {"chat"}, .fail_generate = [](const GenerateRequest&) {
                       return std::optional(Error(ErrorCode::engine_unavailable, "the worker died"));
                     }});
  engine.set_status(ready_status());
  front_ = make(engine);
  const RawReply reply = post("/chat", R"({"messages":[{"role":"user","content":"hi"}],"stream":true})");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  EXPECT_TRUE(reply.headers.contains("retry-after"));
  EXPECT_THAT(reply.body, HasSubstr(R"("code":"engine_unavailable")"));
}

TEST_F(FrontTest, ALateErrorIsAnEventWithoutDone) {
  auto engine =
      std::make_unique<EchoEngine>(EchoOptions{.models = {"chat"}, .token_delay = std::chrono::milliseconds(500)});
  engine->set_status(ready_status());
  front_ = make(*engine);
  RawClient client(front_->port());
  client.send(request("/chat", R"({"messages":[{"role":"user","content":"hi there"}],"stream":true})"));
  client.read_until("\"content\":\"\"");
  engine.reset();  // as a worker's death: what is in flight gets engine_unavailable
  const std::string rest = client.read_all();
  EXPECT_THAT(rest, HasSubstr(R"("code":"engine_unavailable")"));
  EXPECT_THAT(rest, Not(HasSubstr("[DONE]")));
  front_->stop();
}

TEST_F(FrontTest, HealthTellsWhatTheEngineReports) {
  front_ = make(engine_);
  EngineStatus status = ready_status();
  engine_.set_status(status);
  EXPECT_EQ(get("/healthz").status, 200);
  EXPECT_EQ(get("/readyz").status, 200);
  EXPECT_EQ(get("/startupz").status, 200);

  status.state = EngineState::restarting;
  engine_.set_status(status);
  const RawReply away = get("/healthz");
  EXPECT_EQ(away.status, 503);
  EXPECT_THAT(away.body, StartsWith(R"({"status":"unavailable","reasons":[{"code":"engine_restarting")"));
  EXPECT_TRUE(away.headers.contains("retry-after"));
  EXPECT_EQ(get("/livez").status, 200);
  EXPECT_EQ(get("/startupz").status, 200);  // it was ready once
  EXPECT_EQ(post("/chat", kHi).status, 503);

  status.state = EngineState::dead;
  engine_.set_status(status);
  EXPECT_EQ(get("/livez").status, 503);
  EXPECT_EQ(get("/health").status, 503);
}

TEST_F(FrontTest, HealthTellsOfTheCaches) {
  front_ = make(engine_);
  EngineStatus status = ready_status();
  engine_.set_status(status);
  EXPECT_THAT(get("/healthz").body,
              EndsWith(R"("disk":{"state":"off","used_bytes":0,"quota_bytes":0,"files":0,"scanning":false}})"));
  EXPECT_THAT(get("/healthz").body, Not(HasSubstr(R"("kv":)")));

  status.models[0].kv = {200, 50, 30, 2, 3, 1000, 600, 100, 4};
  status.kv_disk = {"full", "no more may be written today", true, 10, 20, 3, 0, 0, {}};
  engine_.set_status(status);
  const RawReply full = get("/healthz");
  EXPECT_EQ(full.status, 200);
  EXPECT_THAT(full.body, StartsWith(R"({"status":"degraded","reasons":[{"code":"disk_full",)"
                                    R"("message":"no more may be written today"}],"warnings":[],)"));
  EXPECT_THAT(full.body, HasSubstr(R"("kv":{"blocks":200,"used":50,"cached":30,"running":2,"waiting":3,)"
                                   R"("query_tokens":1000,"hit_tokens":700,"disk_hit_tokens":100,"preemptions":4})"));
  EXPECT_THAT(full.body, EndsWith(R"("disk":{"state":"full","used_bytes":10,"quota_bytes":20,"files":3,)"
                                  R"("scanning":true,"message":"no more may be written today"}})"));

  status.kv_disk = {"off", "another server has it", false, 0, 0, 0, 0, 0, {}};
  engine_.set_status(status);
  EXPECT_THAT(get("/healthz").body, StartsWith(R"({"status":"ok","reasons":[],"warnings":[{"code":"disk_off",)"
                                               R"("message":"another server has it"}],)"));
}

TEST_F(FrontTest, StartupIsOverWithTheFirstReadiness) {
  front_ = make(engine_);
  EngineStatus status = ready_status();
  status.models[0].state = ModelState::loading;
  status.models[0].progress = 0.25;
  engine_.set_status(status);
  EXPECT_EQ(get("/startupz").status, 503);
  const RawReply loading = get("/healthz");
  EXPECT_EQ(loading.status, 503);
  EXPECT_THAT(loading.body, HasSubstr(R"("state":"loading")"));
  EXPECT_THAT(loading.body, HasSubstr(R"("progress":0.25)"));
  const RawReply reply = post("/chat", kHi);
  EXPECT_EQ(reply.status, 503);
  EXPECT_THAT(reply.body, HasSubstr("model_loading"));
}

TEST_F(FrontTest, AFullQueueIsTooManyRequests) {
  EchoEngine slow({.models = {"chat"}, .token_delay = std::chrono::milliseconds(500)});
  slow.set_status(ready_status());
  front_ = make(slow);
  RawClient first(front_->port());
  first.send(request("/chat", R"({"messages":[{"role":"user","content":"hi"}],"stream":true})"));
  first.read_until("\"content\":\"\"");
  const RawReply reply = post("/embed", R"({"inputs":"a"})");
  EXPECT_EQ(reply.status, 429);
  EXPECT_THAT(reply.body, HasSubstr(R"("error_type":"Overloaded","code":"queue_full")"));
  EXPECT_TRUE(reply.headers.contains("retry-after"));
  front_->stop();
}

TEST_F(FrontTest, ProbesWaitForNobody) {
  engine_.set_status(ready_status());
  front_ = make(engine_);
  const std::string text(60'000, 'x');
  std::string body = R"({"truncate":true,"inputs":[)";
  for (int i = 0; i < 32; ++i) body += (i ? ",\"" : "\"") + text + "\"";
  std::vector<std::unique_ptr<RawClient>> busy;  // more than there are text threads
  for (int i = 0; i < 6; ++i) {
    busy.push_back(std::make_unique<RawClient>(front_->port()));
    busy.back()->send(request("/embed", body + "]}"));
  }
  for (const char* path : {"/livez", "/readyz", "/healthz", "/startupz", "/health"}) {
    EXPECT_EQ(get(path).status, 200) << path;
  }
  EXPECT_EQ(engine_.encode_requests().size(), 0u);  // all of them are still being tokenized
  front_->stop();
}

TEST_F(FrontTest, DrainingIsSaidAtOnceAndRefusesNewWorkLater) {
  engine_.set_status(ready_status());
  front_ = make(engine_);
  front_->announce_drain();
  EXPECT_THAT(get("/healthz").body, StartsWith(R"({"status":"draining")"));
  EXPECT_EQ(post("/chat", kHi).status, 200);
  front_->drain();
  const RawReply refused = post("/chat", kHi);
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, HasSubstr(R"("code":"draining")"));
  EXPECT_EQ(refused.headers.at("connection"), "close");
  EXPECT_EQ(get("/healthz").status, 503);
  EXPECT_TRUE(front_->wait_until_idle(std::chrono::seconds(1)));
}

TEST_F(FrontTest, ForeignersSeeLittleOfTheHealth) {
  engine_.set_status(ready_status());
  front_ = make(engine_, {"a-secret-key"});
  EXPECT_EQ(get("/healthz").body, R"({"status":"ok","reasons":[]})");
  EXPECT_THAT(get("/healthz", "Authorization: Bearer a-secret-key\r\n").body, HasSubstr(R"("models":[)"));
  EXPECT_EQ(get("/healthz", "Authorization: Bearer wrong-key\r\n").body, R"({"status":"ok","reasons":[]})");
  EXPECT_EQ(post("/chat", kHi).status, 401);
  EXPECT_EQ(post("/chat", kHi, "x-api-key: a-secret-key\r\n").status, 200);
}

TEST_F(FrontTest, EmbedHasThreeShapes) {
  engine_.set_status(ready_status());
  front_ = make(engine_);
  EXPECT_THAT(post("/embed", R"({"inputs":"a"})").body, StartsWith("[["));
  EXPECT_THAT(post("/embed", R"({"text":"a"})").body, StartsWith(R"({"embedding":[)"));
  EXPECT_THAT(post("/embed", R"({"texts":["a","b"]})").body, StartsWith(R"({"embeddings":[[)"));
  const RawReply ids = post("/embed", R"({"inputs":[1,2,3]})");
  EXPECT_EQ(ids.status, 200) << ids.body;
  EXPECT_EQ(ids.headers.at("x-compute-tokens"), "3");
  EXPECT_THAT(engine_.encode_requests().back().texts, ElementsAre(ElementsAre(1, 2, 3)));
}

TEST_F(FrontTest, MetricsCountByRoute) {
  engine_.set_status(ready_status());
  front_ = make(engine_);
  get("/no/such/path");
  post("/chat", kHi);
  const std::string text = get("/metrics").body;
  EXPECT_THAT(text, HasSubstr(R"(cortex_requests_total{code="200",endpoint="/chat",model="chat"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(cortex_requests_total{code="404",endpoint="-",model="-"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(cortex_generation_tokens_total{model="chat"} 4)"));
  EXPECT_THAT(text, HasSubstr(R"(cortex_finished_total{model="chat",reason="stop"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(cortex_model_state{model="chat",state="ready"} 1)"));
  EXPECT_THAT(text, HasSubstr("cortex_conversations 1"));
}

}  // namespace
}  // namespace cortex
