// Rerank and embed with real models on the native backend, from text to scores: what transformers computed comes out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <thread>

#include "engine/local_engine.h"
#include "service/embed.h"
#include "service/golden_pairs.h"
#include "service/rerank.h"
#include "service/served_models.h"

namespace cortex {
namespace {

using testing::FloatNear;
using testing::Pointwise;

constexpr float kTolerance = 1e-4f;
constexpr const char* kRagged =
    "Größe, 東京タワー 🙂 Привет. When memory runs short, idle blocks leave first; when heat rises, the batch "
    "shrinks. ";

std::string twice(const std::string& text) { return text + text; }
std::string thrice(const std::string& text) { return text + text + text; }

// Remembers what is asked of the engine behind it.
class ListeningEngine : public Engine {
 public:
  explicit ListeningEngine(Engine& engine) : engine_(engine) {}
  void generate(GenerateRequest request, GenerateSink sink) override {
    engine_.generate(std::move(request), std::move(sink));
  }
  void encode(EncodeRequest request, EncodeSink sink) override {
    heard = request;
    engine_.encode(std::move(request), std::move(sink));
  }
  void cancel(RequestId id) override { engine_.cancel(id); }
  EngineStatus status() const override { return engine_.status(); }
  void set_budget(const StepBudget& budget) override { engine_.set_budget(budget); }
  void load_model(const std::string& model, ModelSink sink) override { engine_.load_model(model, std::move(sink)); }
  void unload_model(const std::string& model, ModelSink sink) override { engine_.unload_model(model, std::move(sink)); }

  EncodeRequest heard;

 private:
  Engine& engine_;
};

// One model, in the engine and as text.
class EncodeModelTest : public testing::TestWithParam<const char*> {
 protected:
  static LocalEngineOptions options() {
    LocalEngineOptions options;
    options.models = {config()};
    options.backend = "cpu";
    options.threads = 1;
    options.exact = true;
    options.rows_per_step = 100;
    options.max_sequences = 8;
    return options;
  }
  static ModelConfig config() {
    ModelConfig config{GetParam(), golden_model(GetParam()).string(), std::nullopt};
    if (config.name == "qwen3-reranker") config.kind = ModelKind::rerank;
    return config;
  }
  void SetUp() override {
    while (local_.status().models.at(0).state == ModelState::loading) std::this_thread::yield();
    ASSERT_EQ(local_.status().models.at(0).state, ModelState::ready) << local_.status().models[0].failure;
  }

  const Models models_{real_file_system(), {config()}};
  LocalEngine local_{options()};
  ListeningEngine engine_{local_};
  Admission admission_{engine_, 4};
  EmbedCache cache_{0};
  ThreadPool text_threads_{1};
};

class RerankModelTest : public EncodeModelTest {
 protected:
  RerankReply rerank(const RerankRequest& request) {
    std::promise<RerankReply> reply;
    reranker_.rerank(request, [&](RerankReply done) { reply.set_value(std::move(done)); });
    return reply.get_future().get();
  }

  RerankService reranker_{models_, admission_, cache_, text_threads_, system_clock()};
};

TEST_P(RerankModelTest, IdsAndScoresAreTheGoldenOnes) {
  const GoldenPairs golden(GetParam());
  for (std::size_t k = 0; k < golden.pairs.size(); ++k) {
    RerankRequest request;
    request.query = golden.pairs[k].first;
    request.texts = {golden.pairs[k].second};
    request.raw_scores = true;
    const RerankReply raw = rerank(request);
    ASSERT_FALSE(raw.error) << raw.error->message();
    EXPECT_EQ(engine_.heard.texts.at(0), golden.ids(k)) << k;
    const bool typed = models_.all().at(0).token_types > 1;
    EXPECT_EQ(engine_.heard.types.size(), typed ? 1u : 0u);
    for (const auto& types : engine_.heard.types) EXPECT_EQ(types, golden.types(k)) << k;
    EXPECT_NEAR(raw.results.at(0).score, golden.score(k), kTolerance) << k;
    request.raw_scores = false;
    EXPECT_NEAR(rerank(request).results.at(0).score, 1.0 / (1.0 + std::exp(-golden.score(k))), kTolerance) << k;
  }
}

TEST_P(RerankModelTest, ScoresDoNotDependOnCompany) {
  const GoldenPairs golden(GetParam());
  RerankRequest request;
  request.query = golden.pairs[0].first;
  request.raw_scores = true;
  for (int i = 0; i < 30; ++i) request.texts.push_back(golden.pairs[static_cast<std::size_t>(i) % 4].second);
  const RerankReply reply = rerank(request);
  ASSERT_FALSE(reply.error) << reply.error->message();
  ASSERT_EQ(reply.results.size(), 30u);
  std::vector<float> scores(30);
  for (const RerankResult& result : reply.results) scores[static_cast<std::size_t>(result.index)] = result.score;
  for (std::size_t i = 4; i < scores.size(); ++i) EXPECT_EQ(scores[i], scores[i % 4]) << i;
  EXPECT_NEAR(scores[0], golden.score(0), kTolerance);
  EXPECT_NEAR(scores[1], golden.score(1), kTolerance);
}

std::string name_of_test(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::erase(name, '-');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, RerankModelTest,
                         testing::Values("bert-reranker", "xlm-roberta-reranker", "modernbert-reranker",
                                         "qwen3-reranker"),
                         name_of_test);

class EmbedModelTest : public EncodeModelTest {};

TEST_P(EmbedModelTest, IdsAndVectorsAreTheGoldenOnes) {
  const Golden golden(golden_model(GetParam()) / "golden.safetensors");
  EmbedService embedder(models_, admission_, cache_, text_threads_, system_clock());
  EmbedRequest request;
  request.inputs = {std::string("The scheduler hands each sequence"), std::string("Paris"),
                    thrice("def add(a, b): return a + b  # 1 + 2 = 3\n"), twice(kRagged)};
  std::promise<EmbedReply> promise;
  embedder.embed(request, [&](EmbedReply done) { promise.set_value(std::move(done)); });
  const EmbedReply reply = promise.get_future().get();
  ASSERT_FALSE(reply.error) << reply.error->message();
  ASSERT_EQ(reply.vectors.size(), 4u);
  for (std::size_t k = 0; k < 4; ++k) {
    EXPECT_EQ(engine_.heard.texts.at(k), golden.ids("ids_" + std::to_string(k))) << k;
    std::vector<float> expected = golden.floats("pooled_" + std::to_string(k));
    normalise(expected);
    EXPECT_THAT(reply.vectors[k], Pointwise(FloatNear(kTolerance), expected)) << k;
  }
}

INSTANTIATE_TEST_SUITE_P(All, EmbedModelTest,
                         testing::Values("bert-cls", "bert-mean", "xlm-roberta-cls", "modernbert-mean",
                                         "qwen3-embedding"),
                         name_of_test);

}  // namespace
}  // namespace cortex
