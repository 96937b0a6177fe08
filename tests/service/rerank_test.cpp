#include "service/rerank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>

#include "fakes/echo_engine.h"
#include "fakes/fake_clock.h"
#include "service/served_models.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};

// A head's logit: how many tokens the text has, less 10. Elsewhere as the echo does.
std::vector<float> score(const EncodeRequest& request, std::size_t text) {
  const auto tokens = static_cast<float>(request.texts[text].size());
  if (!request.scores.empty()) return {-0.5f, -0.5f - tokens / 100.0f};
  return {tokens - 10.0f};
}

class RerankTest : public testing::Test {
 protected:
  RerankReply rerank(const RerankRequest& request) {
    std::promise<RerankReply> reply;
    reranker_.rerank(request, [&](RerankReply done) { reply.set_value(std::move(done)); });
    return reply.get_future().get();
  }
  Error refusal(const RerankRequest& request) {
    try {
      rerank(request);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(ErrorCode::internal_error, "");
  }
  static const ServedModel& model(const std::string& name) { return tiny_rerankers().find(name, Task::rerank); }
  std::vector<std::vector<TokenId>> sent() const { return engine_.encode_requests().back().texts; }

  FakeClock clock_;
  EchoEngine engine_{{.vector = score}};
  Admission admission_{engine_, 4};
  EmbedCache cache_{0};
  ThreadPool text_threads_{2};
  RerankService reranker_{tiny_rerankers(), admission_, cache_, text_threads_, clock_};
};

RerankRequest ask(const std::string& model, std::vector<std::string> texts) {
  RerankRequest request;
  request.model = model;
  request.query = "capital";
  request.texts = std::move(texts);
  return request;
}

float sigmoid(float x) { return static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(x)))); }

std::vector<int> order(const RerankReply& reply) {
  std::vector<int> indices;
  for (const RerankResult& result : reply.results) indices.push_back(result.index);
  return indices;
}

TEST_F(RerankTest, AHeadsScoreIsTheSigmoidOfItsLogit) {
  RerankRequest request = ask("bert-reranker", {"a", "a b c", "b", "a b"});
  const RerankReply reply = rerank(request);
  ASSERT_FALSE(reply.error) << reply.error->message();
  EXPECT_THAT(order(reply), ElementsAre(1, 3, 0, 2));
  EXPECT_EQ(reply.pairs, 4);
  EXPECT_EQ(reply.cost.texts, 4);
  const float best = static_cast<float>(sent()[1].size()) - 10.0f;
  EXPECT_EQ(reply.results[0].score, sigmoid(best));
  request.raw_scores = true;
  EXPECT_EQ(rerank(request).results[0].score, best);
}

TEST_F(RerankTest, AnAnswersScoreIsTheSigmoidOfTheDifference) {
  RerankRequest request = ask("qwen3-reranker", {"a", "a b c d e f g", "b"});
  const RerankReply reply = rerank(request);
  ASSERT_FALSE(reply.error) << reply.error->message();
  EXPECT_THAT(engine_.encode_requests().back().scores, ElementsAre(484, 485));
  EXPECT_THAT(order(reply), ElementsAre(1, 0, 2));
  const float best = static_cast<float>(sent()[1].size()) / 100.0f;
  EXPECT_FLOAT_EQ(reply.results[0].score, sigmoid(best));
  request.raw_scores = true;
  EXPECT_FLOAT_EQ(rerank(request).results[0].score, best);
}

TEST_F(RerankTest, ACosineIsTheSameRawOrNot) {
  EchoEngine engine;
  Admission admission(engine, 4);
  RerankService reranker(tiny_rerankers(), admission, cache_, text_threads_, clock_);
  std::vector<float> scores;
  for (const bool raw : {false, true}) {
    RerankRequest request = ask("embed", {"Paris", "capital"});
    request.raw_scores = raw;
    std::promise<RerankReply> promise;
    reranker.rerank(request, [&](RerankReply done) { promise.set_value(std::move(done)); });
    const RerankReply reply = promise.get_future().get();
    EXPECT_EQ(reply.results.at(0).index, 1);
    EXPECT_EQ(reply.pairs, 2);
    scores.push_back(reply.results[1].score);
  }
  EXPECT_EQ(scores[0], scores[1]);
}

TEST_F(RerankTest, TypesGoAlongWhereTheModelTellsThemApart) {
  rerank(ask("bert-reranker", {"b c"}));
  const auto ids = sent()[0];
  const auto pair = model("bert-reranker").tokenizer->encode_pair("capital", "b c", {.parse_special = false});
  EXPECT_EQ(ids, pair.ids);
  EXPECT_THAT(engine_.encode_requests().back().types, ElementsAre(pair.types));
  for (const char* name : {"xlm-roberta-reranker", "modernbert-reranker", "qwen3-reranker"}) {
    rerank(ask(name, {"b c"}));
    EXPECT_TRUE(engine_.encode_requests().back().types.empty()) << name;
  }
}

TEST_F(RerankTest, TheTextOfASpecialTokenStaysText) {
  for (const char* name : {"bert-reranker", "xlm-roberta-reranker", "modernbert-reranker", "qwen3-reranker"}) {
    const Tokenizer& tokenizer = *model(name).tokenizer;
    const auto specials = [&](const std::vector<TokenId>& ids) {
      return std::ranges::count_if(ids, [&](TokenId id) {
        const bool is_unknown = id == tokenizer.token_id("[UNK]") || id == tokenizer.token_id("<unk>");
        return tokenizer.is_special(id) && !is_unknown;
      });
    };
    RerankRequest request = ask(name, {"x", "[SEP] </s> <|im_end|> x <s> [CLS]"});
    request.query = "<|im_start|>system [SEP] </s>";
    const RerankReply reply = rerank(request);
    ASSERT_FALSE(reply.error);
    EXPECT_EQ(specials(sent()[0]), specials(sent()[1])) << name;
    EXPECT_EQ(specials(sent()[0]), specials(model(name).frame.before) + specials(model(name).frame.between) +
                                       specials(model(name).frame.behind))
        << name;
  }
}

std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += i % 2 ? " a" : " b";
  return text.substr(1);
}

TEST_F(RerankTest, ALongDocumentIsRefusedOrCutAtTheSideThatIsAsked) {
  for (const char* name : {"bert-reranker", "xlm-roberta-reranker", "modernbert-reranker", "qwen3-reranker"}) {
    const ServedModel& served = model(name);
    const auto limit = static_cast<std::size_t>(served.context_tokens);
    RerankRequest request = ask(name, {"a", words(2 * served.context_tokens) + " end"});
    const Error error = refusal(request);
    EXPECT_EQ(error.code(), ErrorCode::context_length_exceeded);
    EXPECT_EQ(error.param(), "texts[1]");
    EXPECT_THAT(error.message(), HasSubstr(std::to_string(limit)));

    const auto document = served.tokenizer->encode(served.frame.document_lead + request.texts[1], kPlain);
    for (const TruncateSide side : {TruncateSide::right, TruncateSide::left}) {
      request.truncation = {.allowed = true, .side = side};
      EXPECT_EQ(rerank(request).cost.truncated, 1);
      const auto ids = sent()[1];
      ASSERT_THAT(ids, SizeIs(limit)) << name;
      const auto behind = served.frame.behind.size();
      const auto query =
          served.tokenizer->encode(served.frame.query_lead + "capital" + served.frame.query_tail, kPlain);
      const auto around = served.frame.before.size() + query.size() + served.frame.between.size() + behind;
      const auto room = static_cast<std::ptrdiff_t>(limit - around);
      const auto begin = ids.end() - static_cast<std::ptrdiff_t>(behind) - room;
      const std::vector kept(begin, begin + room);
      EXPECT_EQ(kept, side == TruncateSide::right ? std::vector(document.begin(), document.begin() + room)
                                                  : std::vector(document.end() - room, document.end()))
          << name;
      EXPECT_EQ(std::vector(ids.end() - static_cast<std::ptrdiff_t>(behind), ids.end()), served.frame.behind);
    }
  }
}

TEST_F(RerankTest, ADocumentHasAtMostTheTokensThatAreAsked) {
  for (const char* name : {"bert-reranker", "qwen3-reranker", "embed"}) {
    RerankRequest request = ask(name, {words(5), words(6), words(50)});
    request.truncation = {.allowed = true, .most_tokens = 5};
    EXPECT_EQ(rerank(request).cost.truncated, 2) << name;
    const auto ids = sent();
    EXPECT_EQ(ids[ids.size() - 1].size(), ids[ids.size() - 3].size()) << name;
    request.truncation.most_tokens = 100000;
    EXPECT_EQ(rerank(request).cost.truncated, 0) << name;
  }
}

TEST_F(RerankTest, AQueryIsNotCutForItsDocuments) {
  for (const char* name : {"bert-reranker", "qwen3-reranker"}) {
    RerankRequest request = ask(name, {"a"});
    request.query = words(model(name).context_tokens);
    request.truncation = request.query_truncation = {.allowed = true};
    const Error error = refusal(request);
    EXPECT_EQ(error.code(), ErrorCode::context_length_exceeded) << name;
    EXPECT_EQ(error.param(), "query");
    EXPECT_THAT(error.message(), HasSubstr(std::to_string(model(name).context_tokens)));
  }
  RerankRequest request = ask("embed", {"a"});
  request.query = words(400);
  request.truncation = {.allowed = true};
  EXPECT_EQ(refusal(request).code(), ErrorCode::context_length_exceeded);
  request.query_truncation = {.allowed = true};
  EXPECT_EQ(rerank(request).cost.truncated, 1);
}

TEST_F(RerankTest, OneTokenOfADocumentIsRoomEnough) {
  const ServedModel& served = model("bert-reranker");
  RerankRequest request = ask("bert-reranker", {"a b"});
  request.truncation = {.allowed = true};
  request.query = words(served.context_tokens - 4);
  EXPECT_THAT(rerank(request).results, SizeIs(1));
  EXPECT_THAT(sent()[0], SizeIs(static_cast<std::size_t>(served.context_tokens)));
  request.query = words(served.context_tokens - 3);
  EXPECT_EQ(refusal(request).code(), ErrorCode::context_length_exceeded);
}

TEST_F(RerankTest, EmptyAndOversizedInputIsRefusedByName) {
  for (const char* name : {"bert-reranker", "qwen3-reranker", "embed"}) {
    RerankRequest request = ask(name, {"a", ""});
    EXPECT_EQ(refusal(request).code(), ErrorCode::empty_input) << name;
    EXPECT_EQ(refusal(request).param(), "texts[1]");
    request.texts[1] = std::string(10 << 20, 'a');
    EXPECT_EQ(refusal(request).code(), ErrorCode::request_too_large);
    request.texts = {"a"};
    request.query = "";
    EXPECT_EQ(refusal(request).code(), ErrorCode::empty_input);
    EXPECT_EQ(refusal(request).param(), "query");
    request.query = std::string(10 << 20, 'a');
    request.truncation = {.allowed = true};
    EXPECT_EQ(refusal(request).code(), ErrorCode::request_too_large) << name;
  }
}

TEST_F(RerankTest, TiesAreInTheOrderOfTheTexts) {
  const RerankReply reply = rerank(ask("bert-reranker", {"a b", "a", "b", "a", "b a"}));
  EXPECT_THAT(order(reply), ElementsAre(0, 4, 1, 2, 3));
}

TEST_F(RerankTest, AReplyOfAnotherShapeIsAnError) {
  for (const int dimensions : {0, 2}) {
    EchoEngine engine({.vector = [dimensions](const EncodeRequest&, std::size_t) {
      return std::vector<float>(static_cast<std::size_t>(dimensions), 1.0f);
    }});
    Admission admission(engine, 4);
    RerankService reranker(tiny_rerankers(), admission, cache_, text_threads_, clock_);
    std::promise<RerankReply> promise;
    reranker.rerank(ask("bert-reranker", {"a", "b"}), [&](RerankReply done) { promise.set_value(std::move(done)); });
    const RerankReply reply = promise.get_future().get();
    ASSERT_TRUE(reply.error) << dimensions;
    EXPECT_EQ(reply.error->code(), ErrorCode::internal_error);
  }
}

}  // namespace
}  // namespace cortex
