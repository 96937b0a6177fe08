#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

TEST(Qwen2, QueriesKeysAndValuesHaveBiases) {
  const Model model = TemporaryModel("qwen2").open();
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_TRUE(spec.qkv_bias);
  EXPECT_FALSE(spec.output_bias);
  EXPECT_TRUE(spec.tied_head);
  EXPECT_EQ(spec.query_key_norm, QueryKeyNorm::none);
  const DecoderLayerWeights& layer = decoder(model).weights.layers[1];
  EXPECT_EQ(layer.value_bias->tensor.name, "model.layers.1.self_attn.v_proj.bias");
  EXPECT_THAT(layer.query_bias->tensor.shape, ElementsAre(64));
  EXPECT_FALSE(layer.query_norm.has_value());
}

TEST(Qwen2, SlidesOnlyWhereItIsToldTo) {
  EXPECT_EQ(decoder(TemporaryModel("qwen2").open()).spec.layers[2].attention, AttentionKind::full);
  const TemporaryModel folder("qwen2");
  folder.replace("config.json", "\"use_sliding_window\": false", "\"use_sliding_window\": true");
  folder.replace("config.json", "\"sliding_window\": null", "\"sliding_window\": 32");
  folder.replace("config.json", "\"max_window_layers\": 28", "\"max_window_layers\": 1");
  folder.replace("config.json", "\"layer_types\"", "\"unused_layer_types\"");
  const Model model = folder.open();
  EXPECT_EQ(decoder(model).spec.layers[0].attention, AttentionKind::full);
  EXPECT_EQ(decoder(model).spec.layers[1].attention, AttentionKind::sliding_window);
  EXPECT_EQ(decoder(model).spec.layers[2].window_tokens, 32);
}

TEST(Qwen2, YarnStretchesTheContextWhereTheFileStillStatesTheOriginalOne) {
  const auto context_with = [](const std::string& rope_type) {
    const TemporaryModel folder("qwen2");
    folder.replace("config.json", "\"rope_type\": \"default\"", rope_type);
    return folder.open().context_tokens();
  };
  const std::string yarn = R"("rope_type": "yarn", "factor": 4.0)";
  EXPECT_EQ(context_with(yarn), 2048);
  EXPECT_EQ(context_with(yarn + R"(, "original_max_position_embeddings": 384)"), 1536);
  EXPECT_EQ(context_with(yarn + R"(, "original_max_position_embeddings": 64)"), 512);
  EXPECT_EQ(context_with(R"("rope_type": "yarn", "factor": 1e6)"), 1 << 24);
  EXPECT_EQ(context_with(R"("rope_type": "linear", "factor": 4.0)"), 512);
}

TEST(Qwen2, RefusesALayerItDoesNotKnow) {
  const TemporaryModel folder("qwen2");
  folder.replace("config.json", "\"full_attention\"", "\"linear_attention\"");
  expect_error(kCode, {"config.json: layer_types: \"linear_attention\""}, [&] { folder.open(); });
}

}  // namespace
}  // namespace cortex
