#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

TEST(Qwen3, NormsEachHeadOfQueriesAndKeys) {
  const Model model = TemporaryModel("qwen3").open();
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_EQ(model.kind, ModelKind::chat);
  EXPECT_EQ(model.format, "safetensors");
  EXPECT_EQ(spec.query_key_norm, QueryKeyNorm::per_head);
  EXPECT_EQ(spec.head_dim, 32);
  EXPECT_FALSE(spec.qkv_bias);
  const DecoderLayerWeights& layer = decoder(model).weights.layers[2];
  EXPECT_EQ(layer.query_norm->tensor.name, "model.layers.2.self_attn.q_norm.weight");
  EXPECT_THAT(layer.key_norm->tensor.shape, ElementsAre(32));
  EXPECT_EQ(layer.key_norm->plus, 0.0f);
  EXPECT_FALSE(layer.attention_post_norm.has_value());
}

TEST(Qwen3, AsksForTheBiasesOfItsConfiguration) {
  const TemporaryModel folder("qwen3");
  folder.replace("config.json", "\"attention_bias\": false", "\"attention_bias\": true");
  expect_error(ErrorCode::invalid_weights, {"self_attn.q_proj.bias\": is missing"}, [&] { folder.open(); });
}

TEST(Qwen3, MlxsGroupsAreWeights) {
  for (const auto& [name, bits, group] : {std::tuple{"qwen3-mlx-q4", 4, 32}, std::tuple{"qwen3-mlx-q8", 8, 64}}) {
    const Model model = TemporaryModel(name).open();
    EXPECT_EQ(model.format, "MLX " + std::to_string(bits) + "-bit");
    const Weight& query = decoder(model).weights.layers[0].query;
    EXPECT_EQ(query.groups->bits, bits);
    EXPECT_EQ(query.groups->group_elements, group);
    EXPECT_THAT(query.shape(), ElementsAre(128, 64));
    EXPECT_FALSE(decoder(model).weights.layers[0].query_norm->groups.has_value());
  }
}

TEST(Qwen3, AnEmbedderIsADecoderWithoutAHead) {
  const Model model = TemporaryModel("qwen3-embedding").open();
  EXPECT_EQ(model.kind, ModelKind::embed);
  EXPECT_EQ(model.embedding.pooling, Pooling::last_token);
  EXPECT_TRUE(model.embedding.normalise);
  EXPECT_EQ(decoder(model).weights.embedding.tensor.name, "embed_tokens.weight");
  EXPECT_EQ(decoder(model).weights.layers[1].down->tensor.name, "layers.1.mlp.down_proj.weight");
  EXPECT_FALSE(decoder(model).weights.head.has_value());
}

TEST(Qwen3, AnEmbedderHasNoUseForAHeadOfItsOwn) {
  const TemporaryModel folder("qwen3-embedding");
  folder.replace("config.json", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
  folder.remove("modules.json");
  const Model model = folder.open();
  EXPECT_EQ(model.kind, ModelKind::embed);
  EXPECT_EQ(model.embedding.pooling, Pooling::last_token);
  EXPECT_FALSE(model.embedding.normalise);
  EXPECT_TRUE(decoder(model).spec.tied_head);
  const TemporaryModel chat("qwen3");
  chat.replace("config.json", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
  expect_error(ErrorCode::invalid_weights, {"\"lm_head.weight\": is missing"}, [&] { chat.open(); });
}

TEST(Qwen3, ARerankerByItsConfigurationAloneChats) {
  const Model model = TemporaryModel("qwen3-reranker").open();
  EXPECT_EQ(model.kind, ModelKind::chat);
  EXPECT_EQ(model.vocabulary(), 486);
}

}  // namespace
}  // namespace cortex
