#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

const EncoderModel& encoder(const Model& model) { return std::get<EncoderModel>(model.network); }

std::vector<int> reaches(const Model& model) {
  std::vector<int> tokens;
  for (const EncoderLayerSpec& layer : encoder(model).spec.layers) {
    EXPECT_EQ(layer.attention == AttentionKind::sliding_window, layer.reach_tokens > 0);
    tokens.push_back(layer.reach_tokens);
  }
  return tokens;
}

TEST(ModernBert, ReadsItsSpec) {
  const Model model = TemporaryModel("modernbert-mean").open();
  const EncoderSpec& spec = encoder(model).spec;
  EXPECT_EQ(model.kind, ModelKind::embed);
  EXPECT_TRUE(spec.pre_norm);
  EXPECT_TRUE(spec.gated);
  EXPECT_EQ(spec.positions, 0);
  EXPECT_EQ(spec.token_types, 0);
  EXPECT_EQ(spec.context_tokens, 512);
  EXPECT_EQ(spec.norm_epsilon, 1e-5f);
  EXPECT_EQ(spec.activation, Activation::gelu);
  EXPECT_THAT(reaches(model), ElementsAre(0, 8, 8, 0));
  EXPECT_EQ(spec.rope, (RopeSpec{.theta = 160000.0f, .dims = 16}));
  EXPECT_EQ(*spec.window_rope, (RopeSpec{.theta = 10000.0f, .dims = 16}));
}

TEST(ModernBert, ReadsItsOlderForm) {
  const TemporaryModel folder("modernbert-mean");
  folder.replace("config.json", "\"layer_types\"", "\"unused_layer_types\"");
  folder.replace("config.json", "\"rope_parameters\"",
                 "\"global_rope_theta\": 5000.0, \"local_rope_theta\": 500.0, \"unused_rope_parameters\"");
  folder.replace("config.json", "\"global_attn_every_n_layers\": 3", "\"global_attn_every_n_layers\": 2");
  const Model model = folder.open();
  EXPECT_THAT(reaches(model), ElementsAre(0, 8, 0, 8));
  EXPECT_EQ(encoder(model).spec.rope.theta, 5000.0f);
  EXPECT_EQ(encoder(model).spec.window_rope->theta, 500.0f);
}

TEST(ModernBert, WindowsHaveTheThetaOfAllLayersWhereTheirsIsNull) {
  const TemporaryModel folder("modernbert-mean");
  folder.replace("config.json", "\"rope_parameters\"",
                 "\"global_rope_theta\": 5000.0, \"local_rope_theta\": null, \"unused_rope_parameters\"");
  EXPECT_EQ(encoder(folder.open()).spec.window_rope->theta, 5000.0f);
}

TEST(ModernBert, TakesFusedTensorsApart) {
  const Model model = TemporaryModel("modernbert-mean").open();
  const EncoderWeights& weights = encoder(model).weights;
  EXPECT_FALSE(weights.layers[0].attention_norm.has_value());
  EXPECT_EQ(weights.layers[1].attention_norm->weight.tensor.name, "layers.1.attn_norm.weight");
  EXPECT_FALSE(weights.layers[1].attention_norm->bias.has_value());
  const EncoderLayerWeights& layer = weights.layers[3];
  const std::uint64_t row_bytes = 64 * sizeof(float);
  EXPECT_THAT(layer.value.weight.shape(), ElementsAre(64, 64));
  EXPECT_EQ(layer.key.weight.tensor.offset, layer.query.weight.tensor.offset + 64 * row_bytes);
  EXPECT_EQ(layer.value.weight.tensor.offset, layer.key.weight.tensor.offset + 64 * row_bytes);
  EXPECT_THAT(layer.gate->weight.shape(), ElementsAre(96, 64));  // the first half is activated
  EXPECT_EQ(layer.up.weight.tensor.offset, layer.gate->weight.tensor.offset + 96 * row_bytes);
  EXPECT_EQ(weights.final_norm->weight.tensor.name, "final_norm.weight");
  EXPECT_FALSE(weights.position_embedding.has_value());
  EXPECT_FALSE(weights.type_embedding.has_value());
}

TEST(ModernBert, AClassifierHasADenseLayerAndANorm) {
  const Model model = TemporaryModel("modernbert-reranker").open();
  EXPECT_EQ(model.kind, ModelKind::rerank);
  const EncoderHeadSpec& spec = *encoder(model).spec.head;
  EXPECT_EQ(spec.pooling, Pooling::mean);
  EXPECT_EQ(spec.activation, Activation::gelu);
  const EncoderHeadWeights& head = *encoder(model).weights.head;
  EXPECT_EQ(head.dense->weight.tensor.name, "head.dense.weight");
  EXPECT_FALSE(head.dense->bias.has_value());
  EXPECT_EQ(head.norm->weight.tensor.name, "head.norm.weight");
  EXPECT_EQ(head.out.bias->tensor.name, "classifier.bias");
  const TemporaryModel cls("modernbert-reranker");
  cls.replace("config.json", "\"classifier_pooling\": \"mean\"", "\"classifier_pooling\": \"cls\"");
  EXPECT_EQ(encoder(cls.open()).spec.head->pooling, Pooling::cls);
}

TEST(ModernBert, RefusesConfigurationsItCannotRun) {
  const auto refused = [](const char* from, const char* to, const std::vector<std::string>& message) {
    const TemporaryModel folder("modernbert-reranker");
    folder.replace("config.json", from, to);
    expect_error(kCode, message, [&] { folder.open(); });
  };
  refused("\"attention_bias\": false", "\"attention_bias\": true", {"attention_bias: true is not supported"});
  refused("\"mlp_bias\": false", "\"mlp_bias\": true", {"mlp_bias: true"});
  refused("\"classifier_pooling\": \"mean\"", "\"classifier_pooling\": \"max\"",
          {"classifier_pooling: \"max\"", "cls, mean"});
  refused("\"local_attention\": 16", "\"local_attention\": 0", {"local_attention: 0"});
  refused("\"vocab_size\": 257", "\"vocab_size\": 256", {"vocab_size: 256", "has 257 rows"});
}

}  // namespace
}  // namespace cortex
