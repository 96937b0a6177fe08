// "explain" in every dialect: what the KV cache had of a prompt.
#include <gmock/gmock.h>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

struct Dialect {
  const char* path;
  const char* prompt;  // as a member of the body
  int refusal;         // of a field of the wrong type
};

constexpr Dialect kDialects[] = {
    {"/chat", R"("messages":[{"role":"user","content":"hi"}])", 422},
    {"/v1/chat/completions", R"("messages":[{"role":"user","content":"hi"}])", 400},
    {"/v1/completions", R"("prompt":"hi")", 400},
};

class ExplainTest : public FrontFixture {
 protected:
  ExplainTest() {
    explaining_.set_status(ready_status());
    front_ = make(explaining_);
  }

  std::string ask(const Dialect& dialect, const std::string& more) {
    return post(dialect.path, fmt::format("{{{},{}}}", dialect.prompt, more)).body;
  }

  // What the engine found.
  GenerateTimings found_;
  EchoEngine explaining_{{.models = {"chat"},
                          .reply = [](const GenerateRequest&) { return std::vector<TokenId>{100, kEndOfTurn}; },
                          .timings =
                              [this](const GenerateRequest& request, GenerateTimings* timings) {
                                timings->cached_tokens = found_.cached_tokens;
                                timings->cached_disk_tokens = found_.cached_disk_tokens;
                                if (request.explain) timings->cache = found_.cache.value_or(CacheExplanation());
                              }}};
};

TEST_F(ExplainTest, NothingIsToldUnlessAskedFor) {
  for (const Dialect& dialect : kDialects) {
    EXPECT_THAT(ask(dialect, R"("explain":false)"), Not(HasSubstr(R"("cache":)"))) << dialect.path;
    EXPECT_FALSE(explaining_.generate_requests().back().explain) << dialect.path;
    EXPECT_THAT(ask(dialect, R"("explain":null)"), HasSubstr(R"("timings":{"queue_ms":)")) << dialect.path;
  }
}

TEST_F(ExplainTest, EveryDialectTellsItInTheTimings) {
  found_.cached_tokens = 32;
  found_.cached_disk_tokens = 16;
  found_.cache = {CacheMiss::diverged, 40, 100};
  const std::string word = models().find("chat", Task::complete).tokenizer->decode(std::vector<TokenId>{100}, false);
  const std::string cache = fmt::format(R"("cache":{{"hit_tokens":32,"tier":"disk","miss":"diverged","diverged_at":40,)"
                                        R"("diverged_token":100,"diverged_text":"{}"}}}}}})",
                                        word);
  for (const Dialect& dialect : kDialects) {
    const std::string body = ask(dialect, R"("explain":true)");
    EXPECT_THAT(body, EndsWith(cache)) << dialect.path;
    EXPECT_THAT(body, HasSubstr(R"("cached_tokens":32)")) << dialect.path;
    EXPECT_TRUE(explaining_.generate_requests().back().explain) << dialect.path;
  }
}

TEST_F(ExplainTest, TheTierIsTheSlowestThatGaveSomething) {
  const Dialect& dialect = kDialects[0];
  EXPECT_THAT(ask(dialect, R"("explain":true)"),
              HasSubstr(R"("cache":{"hit_tokens":0,"tier":"none","miss":null,"diverged_at":null,)"
                        R"("diverged_token":null,"diverged_text":null})"));
  found_.cached_tokens = 16;
  found_.cache = {CacheMiss::not_yet_written, {}, {}};
  EXPECT_THAT(ask(dialect, R"("explain":true)"),
              HasSubstr(R"("cache":{"hit_tokens":16,"tier":"ram","miss":"not_yet_written",)"));
}

TEST_F(ExplainTest, EveryReasonHasItsName) {
  const std::pair<CacheMiss, const char*> names[] = {{CacheMiss::first_use, "first_use"},
                                                     {CacheMiss::diverged, "diverged"},
                                                     {CacheMiss::evicted, "evicted"},
                                                     {CacheMiss::other_salt, "other_salt"},
                                                     {CacheMiss::not_yet_written, "not_yet_written"},
                                                     {CacheMiss::cheaper_to_compute, "cheaper_to_compute"}};
  for (const auto& [miss, name] : names) {
    found_.cache = {miss, {}, {}};
    EXPECT_THAT(ask(kDialects[0], R"("explain":true)"), HasSubstr(fmt::format(R"("miss":"{}")", name)));
  }
}

TEST_F(ExplainTest, AStreamTellsItInItsLastChunk) {
  found_.cached_tokens = 16;
  for (const Dialect& dialect : kDialects) {
    const auto found = events(ask(dialect, R"("explain":true,"stream":true)"));
    ASSERT_GE(found.size(), 3u) << dialect.path;
    EXPECT_EQ(found.back(), "data: [DONE]");
    EXPECT_THAT(found[found.size() - 2], HasSubstr(R"("cache":{"hit_tokens":16,"tier":"ram",)")) << dialect.path;
    for (std::size_t i = 0; i + 2 < found.size(); ++i) EXPECT_THAT(found[i], Not(HasSubstr(R"("timings")")));
  }
}

TEST_F(ExplainTest, AnOpenaiStreamHasOneMoreChunkForIt) {
  for (const Dialect& dialect : {kDialects[1], kDialects[2]}) {
    const std::string plain = ask(dialect, R"("explain":true,"stream":true)");
    EXPECT_THAT(plain, HasSubstr(R"("choices":[],"timings":{)")) << dialect.path;
    EXPECT_THAT(plain, Not(HasSubstr(R"("usage")"))) << dialect.path;
    const std::string both = ask(dialect, R"("explain":true,"stream":true,"stream_options":{"include_usage":true})");
    EXPECT_THAT(both, HasSubstr(R"("choices":[],"usage":{"prompt_tokens":)")) << dialect.path;
    EXPECT_THAT(both, HasSubstr(R"("cache":{)")) << dialect.path;
    EXPECT_THAT(ask(dialect, R"("stream":true)"), Not(HasSubstr(R"("timings")"))) << dialect.path;
  }
}

TEST_F(ExplainTest, OtherTypesAreRefused) {
  for (const Dialect& dialect : kDialects) {
    for (const char* value : {"1", "\"yes\"", "[]", "{}"}) {
      const RawReply reply = post(dialect.path, fmt::format(R"({{{},"explain":{}}})", dialect.prompt, value));
      EXPECT_EQ(reply.status, dialect.refusal) << dialect.path << ' ' << value;
      EXPECT_THAT(reply.body, HasSubstr(R"("code":"invalid_type")")) << reply.body;
      EXPECT_THAT(reply.body, HasSubstr(R"("param":"explain")")) << reply.body;
    }
  }
}

}  // namespace
}  // namespace cortex
