#include "service/encode_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <future>
#include <limits>
#include <random>
#include <thread>
#include <utility>

#include "fakes/echo_engine.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

using Texts = std::vector<std::vector<TokenId>>;

// Holds what it is asked for until the test has it answered.
class HeldEngine : public Engine {
 public:
  void generate(GenerateRequest, GenerateSink) override { ADD_FAILURE() << "nobody generates"; }
  void encode(EncodeRequest request, EncodeSink sink) override {
    requests.push_back(std::move(request));
    sinks_.push_back(std::move(sink));
  }
  void cancel(RequestId id) override {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].id == id) fail(i, Error(ErrorCode::cancelled, "the request was cancelled"));
    }
  }
  EngineStatus status() const override { return {}; }
  void set_budget(const StepBudget&) override { ADD_FAILURE() << "nobody governs"; }
  void load_model(const std::string&, ModelSink) override { ADD_FAILURE() << "nobody loads"; }
  void unload_model(const std::string&, ModelSink) override { ADD_FAILURE() << "nobody unloads"; }

  // Each text's vector is its first id and how many ids it has, or `vector`.
  void answer(std::size_t i, const std::vector<float>& vector = {}) {
    EncodeReply reply;
    reply.dimensions = vector.empty() ? 2 : static_cast<int>(vector.size());
    for (const auto& text : requests.at(i).texts) {
      const std::vector plain{static_cast<float>(text.at(0)), static_cast<float>(text.size())};
      const auto& row = vector.empty() ? plain : vector;
      reply.vectors.insert(reply.vectors.end(), row.begin(), row.end());
    }
    reply.queue_ms = 1;
    reply.compute_ms = 2;
    std::exchange(sinks_.at(i), nullptr)(std::move(reply));
  }
  void fail(std::size_t i, const Error& error) {
    EncodeReply reply;
    reply.error = error;
    if (const EncodeSink sink = std::exchange(sinks_.at(i), nullptr)) sink(std::move(reply));
  }
  void reply_short(std::size_t i) { std::exchange(sinks_.at(i), nullptr)({.dimensions = 2, .vectors = {1.0f}}); }
  // As an engine that goes away.
  void drop(std::size_t i) { sinks_.at(i) = nullptr; }

  std::vector<EncodeRequest> requests;

 private:
  std::vector<EncodeSink> sinks_;
};

// One call and what came of it.
struct Asked {
  std::shared_ptr<EncodeCall> call;
  std::future<EncodedTexts> reply;

  EncodedTexts get() { return reply.get(); }
  bool waits() { return reply.wait_for(std::chrono::milliseconds(20)) == std::future_status::timeout; }
};

class EncodeCallTest : public testing::Test {
 protected:
  Asked ask(EncodeRequest request, EmbedCache* cache, Engine* engine) {
    auto promise = std::make_shared<std::promise<EncodedTexts>>();
    Asked asked;
    asked.reply = promise->get_future();
    request.model = "m";
    asked.call = std::make_shared<EncodeCall>(std::move(request), *engine, *cache, threads_,
                                              [promise](EncodedTexts done) { promise->set_value(std::move(done)); });
    asked.call->start();
    return asked;
  }
  Asked ask(Texts texts, const std::string& salt = "") {
    EncodeRequest request;
    request.texts = std::move(texts);
    request.salt = salt;
    return ask(std::move(request), &cache_, &engine_);
  }
  // Until the pool has done what came before.
  void settle() {
    for (int i = 0; i < 2; ++i) {
      std::promise<void> done;
      threads_.submit([&] { done.set_value(); });
      done.get_future().wait();
    }
  }
  Texts sent(std::size_t i) { return engine_.requests.at(i).texts; }

  EmbedCache cache_{std::size_t{1} << 20};
  ThreadPool threads_{1};
  HeldEngine engine_;  // the first to go, as what it holds needs the others
};

std::vector<std::vector<float>> vectors_of(const EncodedTexts& done) {
  std::vector<std::vector<float>> vectors;
  for (const EmbedVector& vector : done.vectors) vectors.push_back(*vector);
  return vectors;
}

TEST_F(EncodeCallTest, EqualTextsOfACallAreComputedOnceAndComeInTheirPlaces) {
  Asked call = ask({{3}, {1, 1}, {3}, {2}, {1, 1}});
  EXPECT_THAT(engine_.requests, SizeIs(1));
  EXPECT_EQ(sent(0), (Texts{{3}, {1, 1}, {2}}));
  engine_.answer(0);
  const EncodedTexts done = call.get();
  EXPECT_FALSE(done.error);
  EXPECT_THAT(vectors_of(done), ElementsAre(ElementsAre(3, 1), ElementsAre(1, 2), ElementsAre(3, 1), ElementsAre(2, 1),
                                            ElementsAre(1, 2)));
  EXPECT_EQ(done.cached, 2);
  EXPECT_EQ(done.queue_ms, 1);
  EXPECT_EQ(done.compute_ms, 2);
}

TEST_F(EncodeCallTest, WhatIsKeptIsNotComputedAgain) {
  Asked first = ask({{1, 1}, {2}});
  engine_.answer(0);
  first.get();
  Asked same = ask({{2}, {1, 1}});
  const EncodedTexts all = same.get();
  EXPECT_THAT(vectors_of(all), ElementsAre(ElementsAre(2, 1), ElementsAre(1, 2)));
  EXPECT_EQ(all.cached, 2);
  EXPECT_EQ(all.compute_ms, 0);
  EXPECT_THAT(engine_.requests, SizeIs(1));

  Asked some = ask({{4}, {2}, {5}});
  EXPECT_EQ(sent(1), (Texts{{4}, {5}}));
  engine_.answer(1);
  const EncodedTexts mixed = some.get();
  EXPECT_THAT(vectors_of(mixed), ElementsAre(ElementsAre(4, 1), ElementsAre(2, 1), ElementsAre(5, 1)));
  EXPECT_EQ(mixed.cached, 1);
  const auto counts = cache_.counts().at("m");
  EXPECT_EQ(counts.hits, 3u);
  EXPECT_EQ(counts.misses, 4u);
}

TEST_F(EncodeCallTest, AVectorFromTheCacheHasTheBitsOfTheComputedOne) {
  const std::vector<float> odd = {-0.0f, std::numeric_limits<float>::denorm_min(), 0.1f, -3e38f};
  Asked first = ask({{1}});
  engine_.answer(0, odd);
  first.get();
  const auto kept = ask({{1}}).get();
  ASSERT_EQ(kept.vectors[0]->size(), odd.size());
  EXPECT_EQ(std::memcmp(kept.vectors[0]->data(), odd.data(), odd.size() * sizeof(float)), 0);
}

TEST_F(EncodeCallTest, WhatAnotherCallComputesIsWaitedFor) {
  Asked first = ask({{1}, {2}});
  Asked second = ask({{2}, {3}});
  Asked third = ask({{2}});
  ASSERT_THAT(engine_.requests, SizeIs(2));
  EXPECT_EQ(sent(1), (Texts{{3}}));
  engine_.answer(1);
  EXPECT_TRUE(second.waits());
  engine_.answer(0);
  EXPECT_THAT(vectors_of(second.get()), ElementsAre(ElementsAre(2, 1), ElementsAre(3, 1)));
  const EncodedTexts waited = third.get();
  EXPECT_THAT(vectors_of(waited), ElementsAre(ElementsAre(2, 1)));
  EXPECT_EQ(waited.cached, 1);
  EXPECT_EQ(first.get().cached, 0);
  EXPECT_THAT(engine_.requests, SizeIs(2));
}

TEST_F(EncodeCallTest, WhoWaitsComputesWhatTheOtherFailedAt) {
  Asked first = ask({{1}, {2}, {3}});
  Asked second = ask({{3}, {4}, {2}});
  Asked third = ask({{2}});
  engine_.fail(0, Error(ErrorCode::numerical_error, "non-finite"));
  EXPECT_EQ(first.get().error->code(), ErrorCode::numerical_error);
  settle();
  // The second has both in one request, and the third waits for it.
  ASSERT_THAT(engine_.requests, SizeIs(3));
  EXPECT_EQ(sent(2), (Texts{{2}, {3}}));
  engine_.answer(1);
  EXPECT_TRUE(second.waits());
  engine_.answer(2);
  const EncodedTexts done = second.get();
  EXPECT_FALSE(done.error);
  EXPECT_THAT(vectors_of(done), ElementsAre(ElementsAre(3, 1), ElementsAre(4, 1), ElementsAre(2, 1)));
  EXPECT_EQ(done.cached, 0);
  EXPECT_THAT(vectors_of(third.get()), ElementsAre(ElementsAre(2, 1)));
}

TEST_F(EncodeCallTest, ACancelledCallTakesNobodyAlong) {
  Asked first = ask({{1}, {2}});
  Asked second = ask({{2}});
  first.call->cancel();
  EXPECT_EQ(first.get().error->code(), ErrorCode::cancelled);
  settle();
  ASSERT_THAT(engine_.requests, SizeIs(2));
  EXPECT_EQ(sent(1), (Texts{{2}}));
  engine_.answer(1);
  EXPECT_THAT(vectors_of(second.get()), ElementsAre(ElementsAre(2, 1)));
}

TEST_F(EncodeCallTest, WhoOnlyWaitsCanBeCancelledAndTheOtherGoesOn) {
  Asked first = ask({{1}});
  Asked second = ask({{1}});
  EXPECT_TRUE(second.waits());
  second.call->cancel();
  second.call->cancel();
  EXPECT_EQ(second.get().error->code(), ErrorCode::cancelled);
  engine_.answer(0);
  EXPECT_FALSE(first.get().error);
  first.call->cancel();
  EXPECT_THAT(engine_.requests, SizeIs(1));
}

TEST_F(EncodeCallTest, WhatACancelledCallStillGetsIsKept) {
  class DeafEngine : public HeldEngine {
    void cancel(RequestId) override {}
  } engine;
  EncodeRequest request;
  request.texts = {{7}};
  Asked first = ask(request, &cache_, &engine);
  first.call->cancel();
  EXPECT_EQ(first.get().error->code(), ErrorCode::cancelled);
  engine.answer(0);
  settle();
  EXPECT_EQ(ask({{7}}).get().cached, 1);
}

TEST_F(EncodeCallTest, SaltsShareNothing) {
  Asked first = ask({{1}}, "a");
  Asked second = ask({{1}}, "b");
  ASSERT_THAT(engine_.requests, SizeIs(2));
  EXPECT_EQ(engine_.requests[0].salt, "a");
  engine_.answer(0);
  engine_.answer(1);
  EXPECT_EQ(second.get().cached, 0);
  EXPECT_EQ(first.get().cached, 0);
  ask({{1}}, "");
  EXPECT_THAT(engine_.requests, SizeIs(3));
  EXPECT_EQ(ask({{1}}, "b").get().cached, 1);
}

TEST_F(EncodeCallTest, TypesAndScoresGoWithTheirTexts) {
  EncodeRequest request;
  request.texts = {{1, 2}, {1, 2}, {3}};
  request.types = {{0, 0}, {0, 1}, {0}};
  request.scores = {8, 9};
  ask(request, &cache_, &engine_);
  EXPECT_EQ(engine_.requests.at(0).texts, request.texts);
  EXPECT_EQ(engine_.requests[0].types, request.types);
  EXPECT_EQ(engine_.requests[0].scores, request.scores);
  engine_.answer(0);
  settle();
  request.texts = {{3}, {4}};
  request.types = {{0}, {1}};
  ask(request, &cache_, &engine_);
  EXPECT_EQ(engine_.requests.at(1).texts, (Texts{{4}}));
  EXPECT_THAT(engine_.requests[1].types, ElementsAre(ElementsAre(1)));
}

TEST_F(EncodeCallTest, AFewTextsDoNotWaitForAMultitude) {
  Texts many = {{1}};
  for (TokenId id = 2; id < 50; ++id) many.emplace_back(100, id);
  Asked huge = ask(many);
  Asked as_huge = ask(many);
  Asked small = ask({{1}});
  ASSERT_THAT(engine_.requests, SizeIs(2));
  EXPECT_EQ(sent(1), (Texts{{1}}));
  engine_.answer(1);
  EXPECT_THAT(vectors_of(small.get()), ElementsAre(ElementsAre(1, 1)));
  engine_.answer(0);
  EXPECT_EQ(huge.get().cached, 0);
  EXPECT_EQ(as_huge.get().cached, 49);
}

TEST_F(EncodeCallTest, NobodyGetsWhatIsNotFiniteButWhoComputedIt) {
  Asked first = ask({{1}});
  Asked second = ask({{1}});
  engine_.answer(0, {std::numeric_limits<float>::quiet_NaN()});
  EXPECT_TRUE(std::isnan(first.get().vectors[0]->at(0)));
  settle();
  ASSERT_THAT(engine_.requests, SizeIs(2));
  engine_.answer(1);
  EXPECT_THAT(vectors_of(second.get()), ElementsAre(ElementsAre(1, 1)));
}

TEST_F(EncodeCallTest, AReplyOfAnotherSizeIsAnErrorOfThatCallAlone) {
  Asked first = ask({{1}});
  Asked second = ask({{1}});
  engine_.reply_short(0);
  EXPECT_EQ(first.get().error->code(), ErrorCode::internal_error);
  settle();
  engine_.answer(1);
  EXPECT_FALSE(second.get().error);
}

TEST_F(EncodeCallTest, WhatAnEngineDropsIsNotWaitedForForever) {
  Asked first = ask({{1}});
  Asked second = ask({{1}});
  engine_.drop(0);
  settle();
  ASSERT_THAT(engine_.requests, SizeIs(2));
  engine_.answer(1);
  EXPECT_FALSE(second.get().error);
}

TEST_F(EncodeCallTest, OffNothingIsKeptAndNothingShared) {
  EmbedCache off(0);
  EncodeRequest request;
  request.texts = {{1}, {1}};
  Asked first = ask(request, &off, &engine_);
  Asked second = ask(request, &off, &engine_);
  ASSERT_THAT(engine_.requests, SizeIs(2));
  EXPECT_THAT(sent(1), SizeIs(2));
  engine_.answer(0);
  engine_.answer(1);
  EXPECT_EQ(first.get().cached, 0);
  EXPECT_THAT(vectors_of(second.get()), SizeIs(2));
  EXPECT_THAT(off.counts(), IsEmpty());
}

// Calls of many threads with few different texts, some of them cancelled and some batches failing: whoever gets
// vectors gets the right ones, and everybody gets an answer.
TEST_F(EncodeCallTest, ManyCallsAtOnceGetTheirOwnAnswers) {
  std::atomic<int> batches = 0;
  EchoEngine engine({.fail_encode = [&](const EncodeRequest&) {
    return ++batches % 7 == 0 ? std::optional(Error(ErrorCode::numerical_error, "non-finite")) : std::nullopt;
  }});
  EmbedCache small(4000);
  std::atomic<int> answered = 0, failed = 0, shared = 0;
  const auto run = [&](unsigned seed) {
    std::minstd_rand random(seed);
    for (int i = 0; i < 300; ++i) {
      EncodeRequest request;
      for (unsigned k = random() % 4 + 1; k > 0; --k) {
        request.texts.emplace_back(random() % 3 + 1, static_cast<TokenId>(random() % 8));
      }
      Asked asked = ask(request, &small, &engine);
      if (random() % 5 == 0) asked.call->cancel();
      const EncodedTexts done = asked.get();
      done.error ? ++failed : ++answered;
      shared += done.cached;
      for (std::size_t k = 0; !done.error && k < request.texts.size(); ++k) {
        std::vector<float> bag(8, 0.0f);
        bag[static_cast<std::size_t>(request.texts[k][0])] = static_cast<float>(request.texts[k].size());
        ASSERT_EQ(*done.vectors[k], bag);
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned seed = 1; seed <= 4; ++seed) threads.emplace_back(run, seed);
  }
  EXPECT_EQ(answered + failed, 1200);
  EXPECT_GT(answered, failed);
  EXPECT_GT(failed, 0);
  EXPECT_GT(shared, 100);
  EXPECT_LE(small.bytes(), 4000u);
}

}  // namespace
}  // namespace cortex
