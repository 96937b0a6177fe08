#include "model/sentence_transformers.h"

#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr auto kCode = ErrorCode::invalid_config;

EncoderSpec spec_of(const Model& model) { return std::get<EncoderModel>(model.network).spec; }

TEST(SentenceTransformers, ReadsPoolingAndNormalisation) {
  const Model mean = TemporaryModel("bert-mean").open();
  EXPECT_EQ(spec_of(mean).pooling, Pooling::mean);
  EXPECT_TRUE(mean.embedding.normalise);
  EXPECT_EQ(mean.context_tokens(), 320);
  const Model cls = TemporaryModel("bert-cls").open();
  EXPECT_EQ(spec_of(cls).pooling, Pooling::cls);
  EXPECT_FALSE(cls.embedding.normalise);
}

TEST(SentenceTransformers, KnowsBothWaysToNameAMode) {
  const TemporaryModel model("bert-mean");
  model.replace("1_Pooling/config.json", "\"pooling_mode_mean_tokens\": true", "\"pooling_mode_mean_tokens\": false");
  model.replace("1_Pooling/config.json", "\"pooling_mode_lasttoken\": false", "\"pooling_mode_lasttoken\": true");
  EXPECT_EQ(spec_of(model.open()).pooling, Pooling::last_token);
  model.write("1_Pooling/config.json", R"({"pooling_mode": "cls"})");
  EXPECT_EQ(spec_of(model.open()).pooling, Pooling::cls);
}

TEST(SentenceTransformers, WithoutItsFilesPoolsByMean) {
  const TemporaryModel model("bert-cls");
  model.remove("modules.json");
  EXPECT_EQ(spec_of(model.open()).pooling, Pooling::mean);
  EXPECT_FALSE(model.open().embedding.normalise);
}

TEST(SentenceTransformers, ADecoderTakesItsLastToken) {
  const TemporaryModel model("qwen3-embedding");
  EXPECT_EQ(model.open().embedding.pooling, Pooling::last_token);
  model.write("1_Pooling/config.json", R"({"pooling_mode": "mean"})");
  expect_error(kCode, {"1_Pooling/config.json: pooling_mode: \"mean\" is not supported for a decoder", "lasttoken"},
               [&] { model.open(); });
}

TEST(SentenceTransformers, AChatModelWithAPoolingEmbeds) {
  const TemporaryModel model("qwen3");
  EXPECT_EQ(model.open().kind, ModelKind::chat);
  model.write("modules.json", R"([{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}])");
  model.write("1_Pooling/config.json", R"({"pooling_mode_lasttoken": true})");
  model.write("sentence_bert_config.json", R"({"max_seq_length": 100})");
  const Model opened = model.open();
  EXPECT_EQ(opened.kind, ModelKind::embed);
  EXPECT_FALSE(opened.embedding.normalise);
  EXPECT_EQ(opened.context_tokens(), 100);
}

TEST(SentenceTransformers, ADecoderMayRankByItsAnswers) {
  const TemporaryModel model("qwen3-reranker");
  model.write("modules.json",
              R"([{"type": "x.Transformer", "path": ""}, {"type": "x.LogitScore", "path": "1_LogitScore"}])");
  model.write("1_LogitScore/config.json", R"({"true_token_id": 484, "false_token_id": 485})");
  const Model opened = model.open();
  EXPECT_EQ(opened.kind, ModelKind::rerank);
  EXPECT_EQ(opened.answers->yes, 484);
  EXPECT_EQ(opened.answers->no, 485);
  model.write("1_LogitScore/config.json", R"({"true_token_id": 486, "false_token_id": 485})");
  expect_error(kCode, {"1_LogitScore/config.json: true_token_id: 486", "0 to 485"}, [&] { model.open(); });
  model.write("1_LogitScore/config.json", R"({"true_token_id": 484, "false_token_id": null})");
  expect_error(kCode, {"false_token_id: is missing"}, [&] { model.open(); });
}

TEST(SentenceTransformers, ReadsPrompts) {
  const TemporaryModel model("bert-mean");
  const auto prompts = [&](const char* text) { model.write("config_sentence_transformers.json", text); };
  prompts(R"({"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query",
              "similarity_fn_name": "cosine"})");
  const EmbeddingUse use = model.open().embedding;
  EXPECT_EQ(use.prompts, (std::map<std::string, std::string>{{"query", "query: "}, {"document", ""}}));
  EXPECT_EQ(use.default_prompt, "query");
  prompts(R"({"prompts": {}, "default_prompt_name": null})");
  EXPECT_FALSE(model.open().embedding.default_prompt.has_value());
  prompts(R"({"prompts": {"query": "q"}, "default_prompt_name": "passage"})");
  expect_error(kCode, {"config_sentence_transformers.json: default_prompt_name: \"passage\""}, [&] { model.open(); });
  prompts(R"({"prompts": {"query": 7}})");
  expect_error(kCode, {"prompts.query: 7 is not a string"}, [&] { model.open(); });
}

TEST(SentenceTransformers, PromptsArePooledToo) {
  const TemporaryModel model("bert-mean");
  model.write("1_Pooling/config.json", R"({"pooling_mode": "mean", "include_prompt": false})");
  expect_error(kCode, {"1_Pooling/config.json: include_prompt: false"}, [&] { model.open(); });
}

TEST(SentenceTransformers, AClassifierHasAPoolingOfItsOwn) {
  const TemporaryModel model("bert-reranker");
  model.write("modules.json", R"([{"type": "x.Transformer", "path": ""}])");
  model.write("sentence_xlm-roberta_config.json", R"({"max_seq_length": 64})");
  EXPECT_EQ(model.open().kind, ModelKind::rerank);
  EXPECT_EQ(model.open().context_tokens(), 64);
}

TEST(SentenceTransformers, LimitsTheContext) {
  const TemporaryModel model("bert-mean");
  model.write("sentence_bert_config.json", R"({"max_seq_length": 128})");
  EXPECT_EQ(model.open().context_tokens(), 128);
  model.write("sentence_bert_config.json", R"({"max_seq_length": 10000})");
  EXPECT_EQ(model.open().context_tokens(), 320);
  model.write("sentence_bert_config.json", R"({"max_seq_length": null})");
  EXPECT_EQ(model.open().context_tokens(), 320);
  model.write("sentence_bert_config.json", R"({"max_seq_length": 0})");
  expect_error(kCode, {"sentence_bert_config.json: max_seq_length: 0"}, [&] { model.open(); });
}

TEST(SentenceTransformers, RefusesOtherModules) {
  const TemporaryModel model("bert-mean");
  model.replace("modules.json", "models.Normalize", "models.Dense");
  expect_error(kCode, {"modules.json: [2].type", "\"Dense\" in place 2", "Normalize"}, [&] { model.open(); });
  model.write("modules.json", R"([{"type": "x.Pooling", "path": "1_Pooling"}])");
  expect_error(kCode, {"[0].type", "\"Pooling\""}, [&] { model.open(); });
  model.write("modules.json", R"([{"type": "x.Transformer", "path": ""}])");
  expect_error(kCode, {"modules.json: has no Pooling"}, [&] { model.open(); });
  model.write("modules.json", R"({"a": 1})");
  expect_error(kCode, {"modules.json: an object at the top"}, [&] { model.open(); });
  model.write("modules.json", R"([7])");
  expect_error(kCode, {"modules.json: 7 is not an object"}, [&] { model.open(); });
}

TEST(SentenceTransformers, RefusesOtherModesByName) {
  const TemporaryModel model("bert-mean");
  const auto pooling = [&](const char* text) { model.write("1_Pooling/config.json", text); };
  pooling(R"({"pooling_mode_max_tokens": true})");
  expect_error(kCode, {"1_Pooling/config.json", "\"max_tokens\"", "cls, mean, lasttoken"}, [&] { model.open(); });
  pooling(R"({"pooling_mode": "weightedmean"})");
  expect_error(kCode, {"\"weightedmean\""}, [&] { model.open(); });
  pooling(R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})");
  expect_error(kCode, {"2 modes are on"}, [&] { model.open(); });
  pooling("{}");
  expect_error(kCode, {"0 modes are on"}, [&] { model.open(); });
  pooling(R"({"pooling_mode_cls_token": true, "word_embedding_dimension": 65})");
  expect_error(kCode, {"word_embedding_dimension: 65", "64"}, [&] { model.open(); });
  model.remove("1_Pooling");
  expect_error(kCode, {"1_Pooling/config.json: is missing"}, [&] { model.open(); });
}

TEST(SentenceTransformers, ThePoolingsPathStaysInTheFolder) {
  const TemporaryModel model("bert-mean");
  const TemporaryFolder outside;
  outside.write("config.json", R"({"pooling_mode": "cls"})");
  model.replace("modules.json", "\"1_Pooling\"", "\"../" + outside.path().filename().string() + "\"");
  expect_error(ErrorCode::invalid_path, {"out of the model's folder"}, [&] { model.open(); });
}

}  // namespace
}  // namespace cortex
