// From a folder; from GGUF in gguf_model_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

TEST(Llama, ReadsItsSpec) {
  const Model model = TemporaryModel("llama").open();
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_EQ(spec.architecture, "llama");
  EXPECT_EQ(spec.layers.size(), 3u);
  EXPECT_EQ(spec.intermediate, 160);
  EXPECT_EQ(spec.head_dim, 16);
  EXPECT_FALSE(spec.tied_head);
  EXPECT_FALSE(spec.qkv_bias);
  EXPECT_EQ(spec.layers[2].attention, AttentionKind::full);
  EXPECT_EQ(spec.rope.scaling, RopeSpec::Scaling::none);
}

TEST(Llama, PutsTensorsInTheirSlots) {
  const Model model = TemporaryModel("llama").open();
  const DecoderWeights& weights = decoder(model).weights;
  EXPECT_EQ(weights.embedding.tensor.name, "model.embed_tokens.weight");
  EXPECT_EQ(weights.head->tensor.name, "lm_head.weight");
  EXPECT_EQ(weights.final_norm.tensor.name, "model.norm.weight");
  ASSERT_EQ(weights.layers.size(), 3u);
  const DecoderLayerWeights& layer = weights.layers[1];
  EXPECT_EQ(layer.attention_norm->tensor.name, "model.layers.1.input_layernorm.weight");
  EXPECT_EQ(layer.mlp_norm->tensor.name, "model.layers.1.post_attention_layernorm.weight");
  EXPECT_EQ(layer.query.tensor.name, "model.layers.1.self_attn.q_proj.weight");
  EXPECT_EQ(layer.output.tensor.name, "model.layers.1.self_attn.o_proj.weight");
  EXPECT_EQ(layer.gate->tensor.name, "model.layers.1.mlp.gate_proj.weight");
  EXPECT_THAT(layer.key.tensor.shape, ElementsAre(32, 64));
  EXPECT_THAT(layer.down->tensor.shape, ElementsAre(64, 160));
  EXPECT_EQ(layer.query.interleaved_heads, 0);
  EXPECT_FALSE(layer.query_bias.has_value());
}

TEST(Llama, TiedHeadsAndScaledRope) {
  const Model model = TemporaryModel("llama3-rope").open();
  EXPECT_TRUE(decoder(model).spec.tied_head);
  EXPECT_FALSE(decoder(model).weights.head.has_value());
  EXPECT_EQ(decoder(model).spec.rope.scaling, RopeSpec::Scaling::llama3);
  EXPECT_EQ(decoder(model).spec.rope.original_context, 64);
}

TEST(Llama, ATiedHeadThatIsStoredTooIsIgnored) {
  const TemporaryModel folder("llama");
  folder.replace("config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  EXPECT_FALSE(decoder(folder.open()).weights.head.has_value());
}

TEST(Llama, FrequenciesThatAreStoredAreIgnored) {
  const TemporaryModel folder("llama");
  folder.replace("config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  const std::string name = "lm_head.weight";
  const std::string other = "model.rotary_emb.inv_freq";
  folder.replace("model.safetensors", name, other);
  std::string bytes = folder.read("model.safetensors");
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  bytes.replace(0, sizeof(header_bytes), packed(header_bytes + other.size() - name.size()));
  folder.write("model.safetensors", bytes);
  EXPECT_EQ(decoder(folder.open()).weights.layers.size(), 3u);
}

TEST(Llama, AsksForTheBiasesOfItsConfiguration) {
  const TemporaryModel attention("llama");
  attention.replace("config.json", "\"attention_bias\": false", "\"attention_bias\": true");
  expect_error(ErrorCode::invalid_weights, {"\"model.layers.0.self_attn.q_proj.bias\": is missing"},
               [&] { attention.open(); });
  const TemporaryModel mlp("llama");
  mlp.replace("config.json", "\"mlp_bias\": false", "\"mlp_bias\": true");
  expect_error(ErrorCode::invalid_weights, {"\"model.layers.0.mlp.gate_proj.bias\": is missing"}, [&] { mlp.open(); });
}

TEST(Llama, NamesTensorsThatAreMissingMisshapenOrUnknown) {
  const TemporaryModel missing("llama");
  missing.replace("model.safetensors", "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.xx_proj.weight");
  expect_error(ErrorCode::invalid_weights, {"model.safetensors", "\"model.layers.1.mlp.up_proj.weight\": is missing"},
               [&] { missing.open(); });
  const TemporaryModel shape("llama");
  shape.replace("config.json", "\"intermediate_size\": 160", "\"intermediate_size\": 168");
  expect_error(ErrorCode::invalid_weights,
               {"\"model.layers.0.mlp.gate_proj.weight\"", "shape [160, 64], expected [168, 64]"},
               [&] { shape.open(); });
  const TemporaryModel unknown("llama");
  unknown.replace("config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
  expect_error(ErrorCode::invalid_weights, {"\"model.layers.2.input_layernorm.weight\"", "not a part"},
               [&] { unknown.open(); });
  const TemporaryModel type("llama");
  type.replace("model.safetensors", R"("model.norm.weight":{"dtype":"F32")", R"("model.norm.weight":{"dtype":"I32")");
  expect_error(ErrorCode::invalid_weights, {"\"model.norm.weight\"", "I32"}, [&] { type.open(); });
}

TEST(Llama, TheVocabularyIsTheEmbeddings) {
  const TemporaryModel folder("llama");
  folder.replace("config.json", "\"vocab_size\": 484", "\"vocab_size\": 500");
  expect_error(ErrorCode::invalid_config, {"config.json: vocab_size: 500", "model.embed_tokens.weight has 484 rows"},
               [&] { folder.open(); });
}

}  // namespace
}  // namespace cortex
