// LocalEngine with real models on the native backend: the golden outputs come through it, and nothing of how it
// schedules shows in what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <deque>

#include "backend/golden.h"
#include "engine/local_engine.h"
#include "fakes/collected_events.h"

namespace cortex {
namespace {

using testing::FloatNear;
using testing::Pointwise;

constexpr float kTolerance = 1e-4f;

// The golden vectors have length 1, the engine's are as the model pools them.
std::vector<float> normalised(const EncodeReply& reply) {
  std::vector<float> vectors = reply.vectors;
  const auto dimensions = static_cast<std::size_t>(reply.dimensions);
  for (std::size_t i = 0; i < vectors.size(); i += dimensions) {
    const auto vector = std::span(vectors).subspan(i, dimensions);
    double square = 0.0;
    for (const float value : vector) square += static_cast<double>(value) * value;
    for (float& value : vector) value = static_cast<float>(value / std::sqrt(square));
  }
  return vectors;
}

class LocalEngineModelTest : public testing::Test {
 protected:
  LocalEngineModelTest() : decoder_(golden_model("llama") / "golden.safetensors") {
    options_.models = {{"llama", golden_model("llama").string()}, {"bert", golden_model("bert-mean").string()}};
    options_.backend = "cpu";
    options_.threads = 1;
    options_.exact = true;
  }

  GenerateRequest ask(RequestId id, std::vector<TokenId> prompt, int max_tokens) const {
    GenerateRequest request;
    request.id = id;
    request.model = "llama";
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.sampling.temperature = 0.0f;
    return request;
  }
  GenerateRequest sampled(RequestId id, std::vector<TokenId> prompt, std::uint64_t seed) const {
    GenerateRequest request = ask(id, std::move(prompt), 32);
    request.sampling.temperature = 0.8f;
    request.sampling.seed = seed;
    request.logprobs = true;
    return request;
  }

  std::vector<TokenId> prompt(int k) const { return decoder_.ids("ids_" + std::to_string(k)); }

  // log-softmax of the golden logits at the tokens that really follow.
  std::vector<float> golden_logprobs(int k) const {
    const auto ids = prompt(k);
    const auto logits = decoder_.floats("logits_" + std::to_string(k));
    const std::size_t vocabulary = logits.size() / ids.size();
    std::vector<float> logprobs;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto row = std::span(logits).subspan(i * vocabulary, vocabulary);
      double sum = 0.0;
      for (const float logit : row) sum += std::exp(static_cast<double>(logit));
      logprobs.push_back(row[static_cast<std::size_t>(ids[i + 1])] - static_cast<float>(std::log(sum)));
    }
    return logprobs;
  }

  std::vector<float> prompt_logprobs(LocalEngine* engine, int k) const {
    auto request = ask(static_cast<RequestId>(k + 1), prompt(k), 0);
    request.prompt_logprobs = true;
    CollectedEvents events;
    engine->generate(request, events.sink());
    events.wait();
    EXPECT_EQ(events.finish(), FinishReason::length);
    return events.prompt_logprobs();
  }

  const Golden decoder_;
  LocalEngineOptions options_;
};

TEST_F(LocalEngineModelTest, GreedyIsTheGoldenContinuation) {
  LocalEngine engine(options_);
  CollectedEvents events;
  engine.generate(ask(1, prompt(0), 24), events.sink());
  events.wait();
  EXPECT_EQ(events.tokens(), decoder_.ids("greedy_0"));
}

TEST_F(LocalEngineModelTest, PromptScoresAreTheGoldenOnesHoweverThePromptIsCut) {
  LocalEngine whole(options_);
  options_.rows_per_step = 17;
  options_.max_sequences = 1;
  LocalEngine chunks(options_);
  for (int k = 0; k < 4; ++k) {
    const auto scores = prompt_logprobs(&whole, k);
    EXPECT_THAT(scores, Pointwise(FloatNear(kTolerance), golden_logprobs(k))) << "prompt " << k;
    EXPECT_EQ(prompt_logprobs(&chunks, k), scores) << "prompt " << k;
  }
}

TEST_F(LocalEngineModelTest, ASampledReplyDoesNotDependOnItsCompany) {
  std::vector<std::vector<TokenId>> alone;
  std::vector<std::vector<float>> alone_logprobs;
  const auto logprobs = [](const CollectedEvents& events) {
    std::vector<float> all;
    for (const auto& event : events.events()) {
      for (const auto& token : event.tokens) all.push_back(token.logprob);
    }
    return all;
  };
  LocalEngine engine(options_);
  for (int i = 0; i < 6; ++i) {
    CollectedEvents events;
    engine.generate(sampled(static_cast<RequestId>(i + 1), prompt(i % 4), 40 + static_cast<std::uint64_t>(i)),
                    events.sink());
    events.wait();
    alone.push_back(events.tokens());
    alone_logprobs.push_back(logprobs(events));
  }
  EXPECT_NE(alone[0], alone[4]);  // another seed

  std::deque<CollectedEvents> together(6);
  for (int i = 0; i < 6; ++i) {
    engine.generate(sampled(static_cast<RequestId>(i + 101), prompt(i % 4), 40 + static_cast<std::uint64_t>(i)),
                    together[static_cast<std::size_t>(i)].sink());
  }
  for (std::size_t i = 0; i < 6; ++i) {
    together[i].wait();
    EXPECT_EQ(together[i].tokens(), alone[i]) << i;
    EXPECT_EQ(logprobs(together[i]), alone_logprobs[i]) << i;
  }

  // Cramped: little KV, small steps, so prompts are cut and most of them wait.
  const std::size_t block_bytes = 3 * 2 * 2 * 16 * kBlockTokens * sizeof(float);
  options_.kv_bytes = 12 * block_bytes;
  options_.rows_per_step = 20;
  options_.max_sequences = 3;
  LocalEngine cramped(options_);
  std::deque<CollectedEvents> queued(6);
  for (int i = 0; i < 6; ++i) {
    cramped.generate(sampled(static_cast<RequestId>(i + 1), prompt(i % 4), 40 + static_cast<std::uint64_t>(i)),
                     queued[static_cast<std::size_t>(i)].sink());
  }
  for (std::size_t i = 0; i < 6; ++i) {
    queued[i].wait();
    EXPECT_EQ(queued[i].tokens(), alone[i]) << i;
    EXPECT_EQ(logprobs(queued[i]), alone_logprobs[i]) << i;
  }
}

TEST_F(LocalEngineModelTest, VectorsAreTheGoldenOnesBesideADecoder) {
  const Golden golden(golden_model("bert-mean") / "golden.safetensors");
  options_.encode_batch_tokens = 60;
  LocalEngine engine(options_);
  CollectedEvents events;
  engine.generate(ask(1, prompt(0), 24), events.sink());
  EncodeRequest request;
  request.id = 2;
  request.model = "bert";
  std::vector<float> expected;
  for (int k = 0; k < 4; ++k) {
    request.texts.push_back(golden.ids("ids_" + std::to_string(k)));
    const auto pooled = golden.floats("pooled_" + std::to_string(k));
    expected.insert(expected.end(), pooled.begin(), pooled.end());
  }
  CollectedReply reply;
  engine.encode(request, reply.sink());
  const EncodeReply encoded = reply.wait();
  ASSERT_FALSE(encoded.error) << encoded.error->message();
  EXPECT_THAT(normalised(encoded), Pointwise(FloatNear(kTolerance), expected));
  events.wait();
  EXPECT_EQ(events.tokens(), decoder_.ids("greedy_0"));
}

TEST_F(LocalEngineModelTest, AModelThatIsNotThereFailsAlone) {
  options_.models.push_back({"nowhere", "/nonexistent/model"});
  LocalEngine engine(options_);
  auto request = ask(1, {1}, 1);
  request.model = "nowhere";
  CollectedEvents missing, present;
  engine.generate(request, missing.sink());
  engine.generate(ask(2, prompt(0), 1), present.sink());
  missing.wait();
  present.wait();
  EXPECT_EQ(missing.error_code(), ErrorCode::model_failed);
  EXPECT_THAT(missing.error()->message(), testing::HasSubstr("/nonexistent/model"));
  EXPECT_EQ(present.finish(), FinishReason::length);
}

}  // namespace
}  // namespace cortex
