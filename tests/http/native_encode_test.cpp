#include <gmock/gmock.h>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

// How many tokens a text has, less 10, is its logit; the answers' difference is that too.
std::vector<float> score(const EncodeRequest& request, std::size_t text) {
  const auto logit = static_cast<float>(request.texts[text].size()) - 10.0f;
  if (!request.scores.empty()) return {-1.0f, -1.0f - logit};
  if (request.model == "head") return {logit};
  std::vector<float> vector(64, 0.0f);
  for (const TokenId token : request.texts[text]) vector[static_cast<std::size_t>(token) % 64] += 1.0f;
  return vector;
}

class EncodeRoutesTest : public FrontFixture {
 protected:
  EncodeRoutesTest() { serve(&echo_); }

  // "chat", "embed", "head" (bert), "answer" (qwen3, by yes or no) and "qwen" (embeds by its last token).
  static const Models& rerankers() {
    const auto path = [](const char* name) { return test_data(std::string("models/") + name).string(); };
    static const Models models(real_file_system(), {{"chat", path("llama")},
                                                    {"embed", path("bert-mean")},
                                                    {"head", path("bert-reranker")},
                                                    {"answer", path("qwen3-reranker"), ModelKind::rerank},
                                                    {"qwen", path("qwen3-embedding")}});
    return models;
  }

  void serve(EchoEngine* engine) {
    EngineStatus status = ready_status();
    status.models.clear();
    for (const auto& served : rerankers().all()) {
      status.models.emplace_back().name = served.name;
      status.models.back().state = ModelState::ready;
    }
    engine->set_status(status);
    FrontOptions options;
    options.most_under_way = 20;
    front_ = std::make_unique<Front>(std::move(options), rerankers(), *engine, system_clock());
  }

  EchoEngine echo_{{.vector = score}};
};

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

std::string list_of(int count, const std::string& item) {
  std::string list = "[";
  for (int i = 0; i < count; ++i) list += (i ? "," : "") + item;
  return list + "]";
}

std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "a ";
  return text;
}

struct BadCase {
  const char* row;  // of the contract
  const char* name;
  std::string path;
  std::string body;
  int status;
  const char* code;
  const char* message;
};

std::vector<BadCase> bad_cases() {
  const std::string embed = "/embed";
  const std::string rerank = "/rerank";
  const std::string documents = "/v1/rerank";
  const std::string long_text = quoted(words(2000));
  const std::string huge = quoted(std::string(1 << 20, 'a'));
  return {
      {"E1", "nothing_to_embed", embed, "{}", 422, "missing_required_parameter", "inputs"},
      {"E1", "no_inputs", embed, R"({"inputs":[]})", 400, "empty_input", "inputs"},
      {"E1", "empty_text", embed, R"({"inputs":""})", 400, "empty_input", "inputs"},
      {"E1", "empty_texts", embed, R"({"inputs":[""]})", 400, "empty_input", "inputs[0]"},
      {"E1", "too_many", embed, R"({"inputs":)" + list_of(33, R"("a")") + "}", 413, "batch_too_large", "33 > maximum"},
      {"E1", "too_many_texts", embed, R"({"texts":)" + list_of(2049, R"("a")") + "}", 413, "batch_too_large",
       "2049 > maximum"},
      {"E1", "mixed", embed, R"({"inputs":["a",[1]]})", 422, "invalid_type", "inputs[1]"},
      {"E1", "a_number", embed, R"({"inputs":7})", 422, "invalid_type", "inputs"},
      {"E1", "numbers_and_text", embed, R"({"inputs":[1,"a"]})", 422, "invalid_type", "inputs[1]"},
      {"E1", "two_shapes", embed, R"({"inputs":"a","text":"b"})", 422, "invalid_value", "only one"},
      {"E2", "too_long", embed, R"({"inputs":)" + long_text + "}", 413, "context_length_exceeded", "320"},
      {"E2", "unknown_side", embed, R"({"inputs":"a","truncation_direction":"up"})", 422, "invalid_value",
       "left, right"},
      {"E2", "long_document", rerank, R"({"model":"head","query":"q","texts":["a",)" + long_text + "]}", 413,
       "context_length_exceeded", "texts[1]"},
      {"E2", "long_answer", rerank, R"({"model":"answer","query":"q","texts":[)" + long_text + "]}", 413,
       "context_length_exceeded", "1024"},
      {"E2", "long_query", rerank, R"({"model":"head","query":)" + long_text + R"(,"texts":["a"],"truncate":true})",
       413, "context_length_exceeded", "query"},
      {"E2", "documents_query", documents, R"({"model":"head","query":)" + long_text + R"(,"documents":["a"]})", 400,
       "context_length_exceeded", "query"},
      {"E2", "unknown_rerank_side", rerank, R"({"query":"q","texts":["a"],"truncation_direction":"up"})", 422,
       "invalid_value", "truncation_direction"},
      {"E3", "no_dimensions", embed, R"({"inputs":"a","dimensions":0})", 422, "invalid_value", "maximum"},
      {"E3", "negative_dimensions", embed, R"({"inputs":"a","dimensions":-1})", 422, "invalid_value", "maximum"},
      {"E3", "many_dimensions", embed, R"({"inputs":"a","dimensions":65})", 422, "invalid_value", "64"},
      {"E3", "not_matryoshka", embed, R"({"inputs":"a","dimensions":32})", 422, "invalid_value", "not trained"},
      {"E3", "unknown_prompt", embed, R"({"inputs":"a","prompt_name":"x"})", 422, "invalid_value", "prompt_name"},
      {"E4", "empty_query", rerank, R"({"query":"","texts":["a"]})", 400, "empty_input", "query"},
      {"E4", "no_query", rerank, R"({"texts":["a"]})", 422, "missing_required_parameter", "query"},
      {"E4", "no_texts", rerank, R"({"query":"q","texts":[]})", 400, "empty_input", "texts"},
      {"E4", "empty_document", rerank, R"({"model":"head","query":"q","texts":["a",""]})", 400, "empty_input",
       "texts[1]"},
      {"E4", "negative_top_n", rerank, R"({"query":"q","texts":["a"],"top_n":-1})", 422, "invalid_value", "top_n"},
      {"E4", "too_many_texts", rerank, R"({"query":"q","texts":)" + list_of(33, R"("a")") + "}", 413, "batch_too_large",
       "33 > maximum"},
      {"E4", "a_number_as_text", rerank, R"({"query":"q","texts":["a",7]})", 422, "invalid_type", "texts[1]"},
      {"E4", "huge_texts", rerank, R"({"query":"q","texts":)" + list_of(9, huge) + "}", 413, "request_too_large",
       "limit"},
      {"E4", "huge_text", rerank, R"({"model":"head","query":"q","texts":[)" + huge + "]}", 413, "request_too_large",
       "limit"},
      {"E4", "neither", rerank, R"({"query":"q"})", 422, "missing_required_parameter", "texts, documents"},
      {"E4", "both", rerank, R"({"query":"q","texts":["a"],"documents":["a"]})", 422, "invalid_value", "only one"},
      {"E4", "neither_v1", documents, R"({"query":"q"})", 422, "missing_required_parameter", "texts, documents"},
      {"E4", "both_v1", documents, R"({"query":"q","texts":["a"],"documents":["a"]})", 422, "invalid_value",
       "only one"},
      {"E4", "documents_empty_query", documents, R"({"query":"","documents":["a"]})", 400, "empty_input", "query"},
      {"E4", "no_documents", documents, R"({"query":"q","documents":[]})", 400, "empty_input", "documents"},
      {"E4", "documents_negative_top_n", documents, R"({"query":"q","documents":["a"],"top_n":-1})", 400,
       "invalid_value", "top_n"},
      {"E4", "negative_max_tokens", documents, R"({"query":"q","documents":["a"],"max_tokens_per_doc":-1})", 400,
       "invalid_value", "max_tokens_per_doc"},
      {"E4", "without_text", documents, R"({"query":"q","documents":["a",{"title":"b"}]})", 400,
       "missing_required_parameter", "documents[1].text"},
      {"E4", "document_number", documents, R"({"query":"q","documents":[7]})", 400, "invalid_type", "documents[0]"},
      {"E4", "too_many_documents", documents, R"({"query":"q","documents":)" + list_of(1001, R"("a")") + "}", 400,
       "batch_too_large", "1001 > maximum"},
      {"E4", "documents_list", documents, R"({"query":"q","documents":"a"})", 400, "invalid_type", "documents"},
      {"E5", "rerank_on_chat", rerank, R"({"model":"chat","query":"q","texts":["a"]})", 400, "model_not_capable",
       "it can do chat"},
      {"E5", "documents_on_chat", documents, R"({"model":"chat","query":"q","documents":["a"]})", 400,
       "model_not_capable", "it can do chat"},
      {"E5", "chat_on_embedder", "/chat", R"({"model":"embed","messages":[{"role":"user","content":"hi"}]})", 400,
       "model_not_capable", "embed and rerank"},
      {"E5", "embed_on_reranker", embed, R"({"model":"head","inputs":"a"})", 400, "model_not_capable",
       "it can do rerank"},
      {"E5", "embed_on_chat", embed, R"({"model":"chat","inputs":"a"})", 400, "model_not_capable", "it can do chat"},
      {"J7", "unknown_model", rerank, R"({"model":"nobody","query":"q","texts":["a"]})", 404, "model_not_found",
       "nobody"},
      {"J7", "no_name", documents, R"({"model":"../x","query":"q","documents":["a"]})", 400, "invalid_value", "model"},
      {"J1", "no_json", rerank, "nope", 400, "invalid_json", "JSON"},
      {"J1", "no_json_v1", documents, "nope", 400, "invalid_json", "JSON"},
      {"G7", "unknown_id", embed, R"({"inputs":[5,257]})", 422, "invalid_token_id", "257"},
      {"G17", "bad_salt", documents, R"({"query":"q","documents":["a"],"cache_salt":"a/b"})", 400, "invalid_value",
       "cache_salt"},
  };
}

TEST_F(EncodeRoutesTest, BadInputIsMetAsTheContractSays) {
  for (const BadCase& bad : bad_cases()) {
    SCOPED_TRACE(std::string(bad.row) + " " + bad.name);
    const RawReply reply = post(bad.path, bad.body);
    EXPECT_EQ(reply.status, bad.status) << reply.body;
    EXPECT_THAT(reply.body, HasSubstr("\"code\":" + quoted(bad.code)));
    EXPECT_THAT(reply.body, HasSubstr(bad.message));
    EXPECT_EQ(reply.headers.at("content-type"), "application/json");
    EXPECT_TRUE(reply.headers.contains("x-request-id"));
    const bool openai = bad.path == "/v1/rerank" && bad.status != 422;
    EXPECT_THAT(reply.body, StartsWith(openai ? R"({"detail":")" : R"({"error":")"));
    EXPECT_THAT(reply.body, openai ? HasSubstr(R"("error":{"message":")") : HasSubstr(R"("error_type":")"));
    EXPECT_EQ(get("/healthz").status, 200);
    EXPECT_EQ(post("/rerank", R"({"query":"q","texts":["a"]})").status, 200);
  }
}

TEST_F(EncodeRoutesTest, TruncationGivesWhatItIsAskedFor) {
  const std::string long_text = quoted(words(2000));
  for (const char* side : {"left", "right", "Left", "Right"}) {
    const std::string cut = R"(,"truncate":true,"truncation_direction":)" + quoted(side) + "}";
    const RawReply embedded = post("/embed", fmt::format(R"({{"inputs":{}{})", long_text, cut));
    EXPECT_EQ(embedded.status, 200) << embedded.body;
    EXPECT_EQ(embedded.headers.at("x-truncated-inputs"), "1");
    for (const char* model : {"embed", "head", "answer"}) {
      const RawReply ranked =
          post("/rerank", fmt::format(R"({{"model":{},"query":"q","texts":["a",{}]{})", quoted(model), long_text, cut));
      EXPECT_EQ(ranked.status, 200) << ranked.body;
      EXPECT_EQ(ranked.headers.at("x-truncated-inputs"), "1") << model;
    }
  }
}

TEST_F(EncodeRoutesTest, NumbersThatAreNotFiniteAreAnErrorThatIsNotRetried) {
  for (const bool told : {true, false}) {
    EchoOptions options;
    if (told) {
      options.fail_encode = [](const EncodeRequest&) {
        return std::optional(Error(ErrorCode::numerical_error, "the model gave non-finite numbers"));
      };
    } else {
      options.vector = [](const EncodeRequest&, std::size_t) {
        return std::vector<float>{std::numeric_limits<float>::quiet_NaN()};
      };
    }
    EchoEngine broken(options);
    serve(&broken);
    for (const auto& [path, body] : {std::pair("/embed", R"({"inputs":"a"})"),
                                     std::pair("/rerank", R"({"model":"head","query":"q","texts":["a"]})"),
                                     std::pair("/v1/rerank", R"({"model":"head","query":"q","documents":["a"]})")}) {
      const RawReply reply = post(path, body);
      EXPECT_EQ(reply.status, 500) << path;
      EXPECT_THAT(reply.body, AllOf(HasSubstr(R"("code":"numerical_error")"), Not(HasSubstr("NaN,"))));
      EXPECT_EQ(reply.headers.at("x-should-retry"), "false");
    }
    front_.reset();
  }
}

TEST_F(EncodeRoutesTest, TopNOfZeroOrTooManyIsAll) {
  for (const char* top_n : {"0", "9", "3000000000", "null"}) {
    const RawReply reply =
        post("/rerank", std::string(R"({"model":"head","query":"q","texts":["a","b c"],"top_n":)") + top_n + "}");
    EXPECT_THAT(reply.body, AllOf(HasSubstr(R"("index":0)"), HasSubstr(R"("index":1)"))) << top_n;
  }
  EXPECT_THAT(post("/rerank", R"({"model":"head","query":"q","texts":["a","b c"],"top_n":1})").body,
              Not(HasSubstr(R"("index":0)")));
}

TEST_F(EncodeRoutesTest, ANativeRerankHasTheDocumentedShape) {
  // [CLS] a [SEP] a [SEP] are 5 tokens, a logit of -5; with "a a a a a a" it is 0.
  const std::string body = R"({"model":"head","query":"a","texts":["a","a a a a a a"],)";
  EXPECT_EQ(post("/rerank", body + R"("raw_scores":true})").body, R"([{"index":1,"score":0},{"index":0,"score":-5}])");
  EXPECT_EQ(post("/rerank", body + R"("return_text":true})").body,
            R"([{"index":1,"score":0.5,"text":"a a a a a a"},{"index":0,"score":0.006692851,"text":"a"}])");
}

TEST_F(EncodeRoutesTest, TheDocumentsShapeIsTheDocumentedOneOnAllPaths) {
  const std::string body = R"({"model":"head","query":"a","documents":["a",{"text":"a a a a a a"}],)";
  for (const char* path : {"/rerank", "/v1/rerank", "/reranking", "/v1/reranking"}) {
    const RawReply reply = post(path, body + R"("top_n":1})");
    EXPECT_EQ(reply.status, 200);
    EXPECT_THAT(reply.body, AllOf(StartsWith(R"({"id":"rerank-)"), HasSubstr(R"(,"object":"list","created":)"),
                                  HasSubstr(R"("model":"head","results":[{"index":1,"relevance_score":0.5,)"
                                            R"("document":{"text":"a a a a a a"}}],)"
                                            R"("usage":{"prompt_tokens":15,"total_tokens":15}})")))
        << path;
  }
  EXPECT_THAT(post("/rerank", body + R"("return_documents":false})").body, Not(HasSubstr("document\":")));
  for (const char* raw : {R"("raw_scores":true})", R"("use_activation":false})"}) {
    EXPECT_THAT(post("/rerank", body + raw).body, HasSubstr(R"("relevance_score":-5)"));
  }
}

TEST_F(EncodeRoutesTest, DocumentsAreCutToWhatIsAskedOrFits) {
  const std::string body = R"({"model":"head","query":"a","documents":["a a a a a a",)" + quoted(words(2000)) + "]";
  const RawReply fitting = post("/v1/rerank", body + "}");
  EXPECT_EQ(fitting.headers.at("x-truncated-inputs"), "1");
  EXPECT_THAT(echo_.encode_requests().back().texts[1], SizeIs(320));
  const RawReply asked = post("/v1/rerank", body + R"(,"max_tokens_per_doc":2})");
  EXPECT_EQ(asked.headers.at("x-truncated-inputs"), "2");
  // What is left of both is the same.
  EXPECT_THAT(echo_.encode_requests().back().texts, ElementsAre(SizeIs(6)));
  EXPECT_EQ(post("/v1/rerank", body + R"(,"max_tokens_per_doc":0})").headers.at("x-truncated-inputs"), "1");
}

TEST_F(EncodeRoutesTest, TheDefaultIsTheFirstReranker) {
  post("/rerank", R"({"query":"q","texts":["a"]})");
  EXPECT_EQ(echo_.encode_requests().back().model, "head");
}

TEST_F(EncodeRoutesTest, HealthTellsHowAModelRanks) {
  const std::string health = get("/healthz").body;
  EXPECT_THAT(health, HasSubstr(R"("id":"embed","kind":"embed")"));
  EXPECT_THAT(health, HasSubstr(R"("id":"head","kind":"rerank")"));
  for (const char* by : {"cosine", "head", "generative"}) EXPECT_THAT(health, HasSubstr("\"rerank\":" + quoted(by)));
}

TEST_F(EncodeRoutesTest, ADecoderEmbeds) {
  const RawReply reply = post("/embed", R"({"model":"qwen","inputs":["a","b c"]})");
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(echo_.encode_requests().back().scores.empty());
  EXPECT_EQ(post("/rerank", R"({"model":"qwen","query":"q","texts":["a"]})").status, 200);
}

TEST_F(EncodeRoutesTest, TheSameTextsAgainAreNotComputedAndTheReplyAndTheMetricsSaySo) {
  const std::string pairs = R"({"model":"head","query":"q","texts":["b","c"]})";
  const std::string documents = R"({"model":"head","query":"q","documents":["b","d"],"return_documents":false})";
  const RawReply first = post("/embed", R"({"inputs":["a","b","a"]})");
  EXPECT_EQ(first.headers.at("x-cached-texts"), "1");
  EXPECT_EQ(post("/rerank", pairs).headers.at("x-cached-texts"), "0");
  const std::size_t computed = echo_.encode_requests().size();
  const RawReply second = post("/embed", R"({"inputs":["a","b","a"]})");
  EXPECT_EQ(second.body, first.body);
  EXPECT_EQ(second.headers.at("x-cached-texts"), "3");
  EXPECT_EQ(second.headers.at("x-compute-tokens"), first.headers.at("x-compute-tokens"));
  EXPECT_EQ(post("/rerank", pairs).headers.at("x-cached-texts"), "2");
  EXPECT_EQ(echo_.encode_requests().size(), computed);
  EXPECT_EQ(post("/v1/rerank", documents).headers.at("x-cached-texts"), "1");
  EXPECT_EQ(post("/embed", R"({"inputs":["a"],"cache_salt":"s"})").headers.at("x-cached-texts"), "0");

  const std::string metrics = get("/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("cortex_embed_cache_hits_total{model=\"embed\"} 4\n"));
  EXPECT_THAT(metrics, HasSubstr("cortex_embed_cache_misses_total{model=\"embed\"} 3\n"));
  EXPECT_THAT(metrics, HasSubstr("cortex_embed_cache_hits_total{model=\"head\"} 3\n"));
  EXPECT_THAT(metrics, HasSubstr("cortex_embed_cache_misses_total{model=\"head\"} 3\n"));
  EXPECT_THAT(metrics, testing::ContainsRegex("cortex_embed_cache_bytes [1-9]"));
  EXPECT_EQ(get("/metrics").body.find("cortex_embed_cache_hits_total{model=\"embed\"} 8"), std::string::npos);
}

TEST_F(EncodeRoutesTest, WithoutACacheEverythingIsComputed) {
  front_.reset();
  FrontOptions options;
  options.embed_cache_bytes = 0;
  front_ = std::make_unique<Front>(std::move(options), rerankers(), echo_, system_clock());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(post("/embed", R"({"inputs":["a","a"]})").headers.at("x-cached-texts"), "0");
    EXPECT_THAT(echo_.encode_requests().back().texts, SizeIs(2));
  }
  EXPECT_THAT(echo_.encode_requests(), SizeIs(2));
  const std::string metrics = get("/metrics").body;
  EXPECT_THAT(metrics, AllOf(HasSubstr("cortex_embed_cache_bytes 0\n"), Not(HasSubstr("embed_cache_hits"))));
}

}  // namespace
}  // namespace cortex
