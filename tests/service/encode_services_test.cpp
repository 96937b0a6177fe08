#include "service/embed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <future>
#include <thread>

#include "fakes/echo_engine.h"
#include "fakes/fake_clock.h"
#include "fakes/temporary_folder.h"
#include "service/rerank.h"
#include "service/served_models.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class EncodeServicesTest : public testing::Test {
 protected:
  EmbedReply embed(const EmbedRequest& request) {
    std::promise<EmbedReply> reply;
    embedder_.embed(request, [&](EmbedReply done) { reply.set_value(std::move(done)); });
    return reply.get_future().get();
  }
  RerankReply rerank(const RerankRequest& request) {
    std::promise<RerankReply> reply;
    reranker_.rerank(request, [&](RerankReply done) { reply.set_value(std::move(done)); });
    return reply.get_future().get();
  }
  // The code and message of the error that `call` throws.
  template <typename Call>
  Error error_of(Call call) {
    try {
      call();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(ErrorCode::internal_error, "");
  }

  FakeClock clock_;
  EchoEngine engine_{{.models = {"chat", "embed"}}};
  Admission admission_{engine_, 4};
  EmbedCache cache_{0};
  ThreadPool text_threads_{2};
  EmbedService embedder_{tiny_models(), admission_, cache_, text_threads_, clock_};
  RerankService reranker_{tiny_models(), admission_, cache_, text_threads_, clock_};
};

EmbedRequest texts(std::vector<EmbedInput> inputs) {
  EmbedRequest request;
  request.inputs = std::move(inputs);
  return request;
}

double length(const std::vector<float>& vector) {
  double square = 0;
  for (const float value : vector) square += value * value;
  return std::sqrt(square);
}

TEST_F(EncodeServicesTest, WhoHasTheAnswerMayAskAgain) {
  std::promise<std::vector<Admission::Ticket>> promise;
  embedder_.embed(texts({"a"}), [&](const EmbedReply&) {
    std::vector<Admission::Ticket> all;
    try {
      for (int i = 0; i < 4; ++i) all.push_back(admission_.enter("embed"));
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
    promise.set_value(std::move(all));
  });
  EXPECT_THAT(promise.get_future().get(), SizeIs(4));
}

TEST_F(EncodeServicesTest, VectorsComeInTheOrderOfTheTextsAndHaveLengthOne) {
  const EmbedReply reply = embed(texts({std::string("Paris"), std::string("The scheduler")}));
  ASSERT_FALSE(reply.error);
  ASSERT_THAT(reply.vectors, SizeIs(2));
  EXPECT_NEAR(length(reply.vectors[0]), 1.0, 1e-6);
  EXPECT_NE(reply.vectors[0], reply.vectors[1]);
  EXPECT_EQ(reply.vectors[1], embed(texts({std::string("The scheduler")})).vectors[0]);
  EXPECT_EQ(reply.cost.texts, 2);
  EXPECT_EQ(reply.cost.characters, 18);
  EXPECT_EQ(reply.cost.truncated, 0);
}

TEST_F(EncodeServicesTest, WithoutNormalisationTheVectorStaysAsTheModelGaveIt) {
  EmbedRequest request = texts({std::string("Paris")});
  request.normalize = false;
  EXPECT_GT(length(embed(request).vectors[0]), 1.5);
}

TEST_F(EncodeServicesTest, IdsAreTakenAsTheyAre) {
  embed(texts({std::vector<std::int64_t>{5, 6, 7}}));
  EXPECT_THAT(engine_.encode_requests().back().texts, ElementsAre(ElementsAre(5, 6, 7)));
  const Error error = error_of([&] { embed(texts({std::vector<std::int64_t>{5, -1}})); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_token_id);
  EXPECT_THAT(error.message(), HasSubstr("257"));
  EXPECT_EQ(error.param(), "inputs[0]");
}

TEST_F(EncodeServicesTest, ATextThatIsTooLongIsRefusedOrCutBetweenItsSpecialTokens) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "a b ";
  const Error error = error_of([&] { embed(texts({text})); });
  EXPECT_EQ(error.code(), ErrorCode::context_length_exceeded);
  EXPECT_THAT(error.message(), HasSubstr("320"));

  const auto& tokenizer = *tiny_models().find("embed", Task::embed).tokenizer;
  const auto whole = tokenizer.encode(text, {.add_special_tokens = true, .parse_special = false});
  for (const TruncateSide side : {TruncateSide::right, TruncateSide::left}) {
    EmbedRequest request = texts({text});
    request.truncation = {.allowed = true, .side = side};
    EXPECT_EQ(embed(request).cost.truncated, 1);
    const auto cut = engine_.encode_requests().back().texts[0];
    ASSERT_THAT(cut, SizeIs(320));
    EXPECT_EQ(cut.front(), whole.front());
    EXPECT_EQ(cut.back(), whole.back());
    const auto kept = std::vector(cut.begin() + 1, cut.end() - 1);
    const auto expected = side == TruncateSide::right ? std::vector(whole.begin() + 1, whole.begin() + 319)
                                                      : std::vector(whole.end() - 319, whole.end() - 1);
    EXPECT_EQ(kept, expected);
  }
}

TEST_F(EncodeServicesTest, EmptyInputIsRefusedByName) {
  EXPECT_EQ(error_of([&] { embed(texts({})); }).code(), ErrorCode::empty_input);
  const Error error = error_of([&] { embed(texts({std::string("a"), std::string()})); });
  EXPECT_EQ(error.code(), ErrorCode::empty_input);
  EXPECT_EQ(error.param(), "inputs[1]");
}

TEST_F(EncodeServicesTest, DimensionsAndPromptsThatTheModelLacksAreRefused) {
  EmbedRequest request = texts({std::string("a")});
  request.dimensions = 8;
  EXPECT_EQ(error_of([&] { embed(request); }).code(), ErrorCode::invalid_value);
  request.dimensions = 64;
  EXPECT_FALSE(embed(request).error);
  request.prompt_name = "query";
  EXPECT_EQ(error_of([&] { embed(request); }).param(), "prompt_name");
}

// bert-mean with prompts, one of them the default or none.
Models prompted(const TemporaryFolder& folder, const std::string& default_name) {
  std::filesystem::copy(test_data("models/bert-mean"), folder.path() / "m", std::filesystem::copy_options::recursive);
  folder.write("m/config_sentence_transformers.json",
               R"({"prompts":{"query":"question ","document":"answer "},"default_prompt_name":)" + default_name + "}");
  return Models(real_file_system(), {{"embed", (folder.path() / "m").string()}});
}

TEST_F(EncodeServicesTest, APromptGoesBeforeEachText) {
  const TemporaryFolder with_default, without;
  const Models models = prompted(with_default, "\"query\"");
  const Models plain = prompted(without, "null");
  const auto sent = [&](const Models& served, const EmbedRequest& request) {
    EmbedService embedder(served, admission_, cache_, text_threads_, clock_);
    std::promise<EmbedReply> reply;
    embedder.embed(request, [&](EmbedReply done) { reply.set_value(std::move(done)); });
    EXPECT_FALSE(reply.get_future().get().error);
    return engine_.encode_requests().back().texts;
  };
  const auto ids = [&](const std::string& text) {
    return tiny_models().find("embed", Task::embed).tokenizer->encode(text, {.parse_special = false});
  };
  EmbedRequest request = texts({std::string("Paris"), std::string("a")});
  EXPECT_THAT(sent(plain, request), ElementsAre(ids("Paris"), ids("a")));
  EXPECT_THAT(sent(models, request), ElementsAre(ids("question Paris"), ids("question a")));
  request.prompt_name = "document";
  EXPECT_THAT(sent(models, request), ElementsAre(ids("answer Paris"), ids("answer a")));
  EXPECT_THAT(sent(plain, request), ElementsAre(ids("answer Paris"), ids("answer a")));

  request.prompt_name = "passage";
  const Error error = error_of([&] { sent(models, request); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_value);
  EXPECT_EQ(error.param(), "prompt_name");
  EXPECT_THAT(error.message(), HasSubstr("one of document, query"));

  EmbedRequest by_ids = texts({std::vector<std::int64_t>{5, 6}});
  EXPECT_THAT(sent(models, by_ids), ElementsAre(ElementsAre(5, 6)));
  by_ids.prompt_name = "query";
  EXPECT_EQ(error_of([&] { sent(models, by_ids); }).param(), "prompt_name");
}

TEST_F(EncodeServicesTest, WhatTheEngineSaysReachesTheCaller) {
  EchoEngine engine({.models = {"embed"}, .fail_encode = [](const EncodeRequest&) {
                       return std::optional(Error(ErrorCode::numerical_error, "non-finite"));
                     }});
  Admission admission(engine, 4);
  EmbedService embedder(tiny_models(), admission, cache_, text_threads_, clock_);
  std::promise<EmbedReply> reply;
  embedder.embed(texts({std::string("a")}), [&](EmbedReply done) { reply.set_value(std::move(done)); });
  EXPECT_EQ(reply.get_future().get().error->code(), ErrorCode::numerical_error);
}

// What goes to the engine and comes back crosses to its process in one frame.
TEST_F(EncodeServicesTest, MoreTokensOrNumbersThanAFrameHoldsAreRefusedFirst) {
  const std::vector<EmbedInput> long_texts(12'400, std::vector<std::int64_t>(320, 5));
  const Error tokens = error_of([&] { embed(texts(long_texts)); });
  EXPECT_EQ(tokens.code(), ErrorCode::batch_too_large);
  EXPECT_THAT(tokens.message(), HasSubstr("at most 3932160"));
  const std::vector<EmbedInput> many_texts(61'500, std::vector<std::int64_t>(1, 5));
  const Error numbers = error_of([&] { embed(texts(many_texts)); });
  EXPECT_EQ(numbers.code(), ErrorCode::batch_too_large);
  EXPECT_THAT(numbers.message(), HasSubstr("over 61440 texts"));
  EXPECT_THAT(engine_.encode_requests(), SizeIs(0));
  EXPECT_FALSE(embed(texts({std::string("Paris")})).error);
}

TEST_F(EncodeServicesTest, RerankPutsTheMostAlikeFirstAndTiesByIndex) {
  RerankRequest request;
  request.query = "Paris";
  request.texts = {"def add(a, b): return a + b", "Paris", "The scheduler hands each sequence", "Paris"};
  const RerankReply reply = rerank(request);
  ASSERT_FALSE(reply.error);
  ASSERT_THAT(reply.results, SizeIs(4));
  EXPECT_EQ(reply.results[0].index, 1);
  EXPECT_EQ(reply.results[1].index, 3);
  EXPECT_NEAR(reply.results[0].score, 1.0f, 1e-6f);
  EXPECT_GE(reply.results[2].score, reply.results[3].score);
  EXPECT_EQ(engine_.encode_requests().back().texts.size(), 5u);
}

TEST_F(EncodeServicesTest, TopNLimitsTheResults) {
  RerankRequest request;
  request.query = "q";
  request.texts = {"a", "b", "c"};
  request.top_n = 2;
  EXPECT_THAT(rerank(request).results, SizeIs(2));
  request.top_n = 9;
  EXPECT_THAT(rerank(request).results, SizeIs(3));
  request.top_n = 0;
  EXPECT_THAT(rerank(request).results, SizeIs(3));
}

TEST_F(EncodeServicesTest, RerankNamesWhatIsWrong) {
  RerankRequest request;
  request.query = "q";
  EXPECT_EQ(error_of([&] { rerank(request); }).param(), "texts");
  request.texts = {"a", ""};
  EXPECT_EQ(error_of([&] { rerank(request); }).param(), "texts[1]");
  request.query = "";
  EXPECT_EQ(error_of([&] { rerank(request); }).param(), "query");
}

TEST_F(EncodeServicesTest, AnEngineThatIsAwayTakesNothing) {
  EngineStatus status = engine_.status();
  status.state = EngineState::restarting;
  engine_.set_status(status);
  EXPECT_EQ(error_of([&] { embed(texts({std::string("a")})); }).code(), ErrorCode::engine_unavailable);
}

TEST_F(EncodeServicesTest, NoMoreAreUnderWayThanMayBe) {
  EchoEngine slow({.models = {"embed"}, .encode_delay = std::chrono::seconds(1)});
  Admission admission(slow, 2);
  EmbedService embedder(tiny_models(), admission, cache_, text_threads_, clock_);
  std::array<std::promise<void>, 2> done;
  for (auto& promise : done) embedder.embed(texts({std::string("a")}), [&](const EmbedReply&) { promise.set_value(); });
  const Error error = error_of([&] { embedder.embed(texts({std::string("a")}), [](const EmbedReply&) {}); });
  EXPECT_EQ(error.code(), ErrorCode::queue_full);
  EXPECT_THAT(error.message(), HasSubstr("2"));
  for (auto& promise : done) promise.get_future().wait();
  // Their places are free again, at the latest when their sinks are gone.
  for (int i = 0; i < 1000; ++i) {
    try {
      admission.enter("embed");
      return;
    } catch (const Error&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  FAIL() << "the places were not given back";
}

TEST_F(EncodeServicesTest, ATextOfTooManyBytesIsNotTokenized) {
  const std::string text(10 << 20, 'a');
  const Error error = error_of([&] { embed(texts({text})); });
  EXPECT_EQ(error.code(), ErrorCode::request_too_large);
  EXPECT_THAT(error.message(), HasSubstr("limit"));
  EmbedRequest request = texts({"x" + std::string(10 << 20, ' ') + "Paris"});
  request.truncation = {.allowed = true, .side = TruncateSide::left};
  const EmbedReply reply = embed(request);
  ASSERT_FALSE(reply.error);
  EXPECT_EQ(reply.vectors, embed(texts({std::string("Paris")})).vectors);
}

// The same over a cache.
class CachedServicesTest : public EncodeServicesTest {
 protected:
  EmbedReply embed(const EmbedRequest& request) {
    std::promise<EmbedReply> reply;
    embedder_.embed(request, [&](EmbedReply done) { reply.set_value(std::move(done)); });
    return reply.get_future().get();
  }
  RerankReply rerank(const RerankRequest& request) {
    std::promise<RerankReply> reply;
    reranker_.rerank(request, [&](RerankReply done) { reply.set_value(std::move(done)); });
    return reply.get_future().get();
  }
  std::size_t computed() const {
    std::size_t texts = 0;
    for (const auto& request : engine_.encode_requests()) texts += request.texts.size();
    return texts;
  }

  EmbedCache kept_{std::size_t{1} << 20};
  EmbedService embedder_{tiny_models(), admission_, kept_, text_threads_, clock_};
  RerankService reranker_{tiny_rerankers(), admission_, kept_, text_threads_, clock_};
};

TEST_F(CachedServicesTest, TheSameTextsAgainComputeNothing) {
  const EmbedRequest request = texts({"Paris", "a b", "Paris"});
  const EmbedReply first = embed(request);
  EXPECT_EQ(first.cost.texts, 3);
  EXPECT_EQ(first.cost.cached, 1);
  EXPECT_EQ(computed(), 2u);
  const EmbedReply second = embed(request);
  EXPECT_EQ(second.vectors, first.vectors);
  EXPECT_EQ(second.vectors[0], second.vectors[2]);
  EXPECT_EQ(second.cost.cached, 3);
  EXPECT_EQ(second.cost.tokens, first.cost.tokens);
  EXPECT_EQ(computed(), 2u);
  EXPECT_EQ(kept_.counts().at("embed").hits, 4u);
  EXPECT_EQ(kept_.counts().at("embed").misses, 2u);
}

TEST_F(CachedServicesTest, OneEntryServesNormalisedAndPlain) {
  EmbedRequest request = texts({"Paris"});
  EXPECT_NEAR(length(embed(request).vectors[0]), 1.0, 1e-6);
  request.normalize = false;
  EXPECT_GT(length(embed(request).vectors[0]), 1.5);
  request.normalize = true;
  EXPECT_NEAR(length(embed(request).vectors[0]), 1.0, 1e-6);
  EXPECT_EQ(computed(), 1u);
}

TEST_F(CachedServicesTest, AnotherSaltIsAnotherText) {
  EmbedRequest request = texts({"Paris"});
  embed(request);
  request.salt = "tenant";
  EXPECT_EQ(embed(request).cost.cached, 0);
  EXPECT_EQ(embed(request).cost.cached, 1);
  EXPECT_EQ(computed(), 2u);
}

TEST_F(CachedServicesTest, RankingByCosineUsesEmbeddings) {
  embed(texts({"Paris", "a b"}));
  RerankRequest request;
  request.model = "embed";
  request.query = "Paris";
  request.texts = {"a b", "Paris", "new"};
  const RerankReply reply = rerank(request);
  ASSERT_FALSE(reply.error) << reply.error->message();
  EXPECT_EQ(reply.results[0].index, 1);
  EXPECT_EQ(reply.cost.texts, 4);
  EXPECT_EQ(reply.cost.cached, 3);
  EXPECT_EQ(computed(), 3u);
}

TEST_F(CachedServicesTest, PairsAreKeptByBothOfTheirTexts) {
  for (const char* model : {"bert-reranker", "qwen3-reranker"}) {
    EchoEngine echo({.vector = [](const EncodeRequest& asked, std::size_t text) {
      const auto tokens = static_cast<float>(asked.texts[text].size());
      return asked.scores.empty() ? std::vector{tokens} : std::vector{0.0f, tokens};
    }});
    Admission admission(echo, 4);
    RerankService reranker(tiny_rerankers(), admission, kept_, text_threads_, clock_);
    const auto ask = [&](const std::string& query) {
      RerankRequest request;
      request.model = model;
      request.query = query;
      request.texts = {"a", "a b c", "a"};
      request.raw_scores = true;
      std::promise<RerankReply> reply;
      reranker.rerank(request, [&](RerankReply done) { reply.set_value(std::move(done)); });
      return reply.get_future().get();
    };
    const RerankReply first = ask("capital");
    ASSERT_FALSE(first.error) << first.error->message();
    EXPECT_EQ(first.cost.cached, 1) << model;
    const RerankReply second = ask("capital");
    EXPECT_EQ(second.cost.cached, 3) << model;
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(second.results[i].index, first.results[i].index);
      EXPECT_EQ(second.results[i].score, first.results[i].score);
    }
    EXPECT_EQ(ask("other").cost.cached, 1) << model;
    EXPECT_THAT(echo.encode_requests(), SizeIs(2));
  }
}

TEST_F(CachedServicesTest, ACallWithoutAnythingToComputeNeedsNoTurn) {
  EchoEngine slow({.models = {"embed"}, .encode_delay = std::chrono::hours(1)});
  Admission admission(slow, 4);
  embed(texts({"Paris"}));
  EmbedService embedder(tiny_models(), admission, kept_, text_threads_, clock_);
  std::promise<EmbedReply> waiting, cached;
  const CancelEncode cancel =
      embedder.embed(texts({"a"}), [&](EmbedReply done) { waiting.set_value(std::move(done)); });
  embedder.embed(texts({"Paris"}), [&](EmbedReply done) { cached.set_value(std::move(done)); });
  EXPECT_EQ(cached.get_future().get().cost.cached, 1);
  cancel();
  EXPECT_EQ(waiting.get_future().get().error->code(), ErrorCode::cancelled);
  cancel();
}

}  // namespace
}  // namespace cortex
