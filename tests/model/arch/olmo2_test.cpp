#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

TEST(Olmo2, NormsBehindAndOverAllHeads) {
  const Model model = TemporaryModel("olmo2").open();
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_FALSE(spec.pre_norm);
  EXPECT_TRUE(spec.post_norm);
  EXPECT_EQ(spec.query_key_norm, QueryKeyNorm::whole);
  EXPECT_FALSE(spec.qkv_bias);
  const DecoderLayerWeights& layer = decoder(model).weights.layers[1];
  EXPECT_EQ(layer.attention_post_norm->tensor.name, "model.layers.1.post_attention_layernorm.weight");
  EXPECT_EQ(layer.mlp_post_norm->tensor.name, "model.layers.1.post_feedforward_layernorm.weight");
  EXPECT_FALSE(layer.attention_norm.has_value());
  EXPECT_FALSE(layer.mlp_norm.has_value());
  EXPECT_THAT(layer.query_norm->tensor.shape, ElementsAre(64));
  EXPECT_THAT(layer.key_norm->tensor.shape, ElementsAre(32));
}

TEST(Olmo2, HasItsOwnDefaultOfEpsilon) {
  const TemporaryModel folder("olmo2");
  folder.replace("config.json", "\"rms_norm_eps\": 1e-05,", "");
  EXPECT_EQ(decoder(folder.open()).spec.norm_epsilon, 1e-5f);
}

TEST(Olmo2, AsksForTheBiasesOfItsConfiguration) {
  const TemporaryModel folder("olmo2");
  folder.replace("config.json", "\"attention_bias\": false", "\"attention_bias\": true");
  expect_error(ErrorCode::invalid_weights, {"self_attn.q_proj.bias\": is missing"}, [&] { folder.open(); });
}

}  // namespace
}  // namespace cortex
