// Every decoder but llama from GGUF; what they share is in gguf_model_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

// Hidden 8, two heads of 4 over one of keys, feed-forwards of 6, five tokens; values count up within each tensor.
class DecoderGguf {
 public:
  GgufBytes keys;

  DecoderGguf(const std::string& architecture, int layers) {
    const std::string at = architecture + ".";
    keys.string("general.architecture", architecture)
        .integer(at + "block_count", static_cast<std::uint32_t>(layers))
        .integer(at + "context_length", 64)
        .integer(at + "embedding_length", 8)
        .integer(at + "feed_forward_length", 6)
        .integer(at + "attention.head_count", 2)
        .integer(at + "attention.head_count_kv", 1)
        .number(at + "attention.layer_norm_rms_epsilon", 1e-5f)
        .number(at + "rope.freq_base", 1000.0f)
        .string("tokenizer.ggml.model", "gpt2")
        .strings("tokenizer.ggml.tokens", {"a", "b", "c", "d", "e"});
    add("token_embd.weight", {8, 5});
    add("output_norm.weight", {8});
    for (layer_ = 0; layer_ < layers; ++layer_) {
      in_layer("attn_norm.weight", {8});
      in_layer("ffn_norm.weight", {8});
      in_layer("attn_output.weight", {8, 8});
      if (architecture == "phi3") {
        in_layer("attn_qkv.weight", {8, 16});
        in_layer("ffn_up.weight", {8, 12});
        in_layer("ffn_down.weight", {6, 8});
      } else {
        add_apart(architecture);
      }
    }
  }
  void add(const std::string& name, const std::vector<std::uint64_t>& dimensions) {
    std::uint64_t elements = 1;
    for (const auto dimension : dimensions) elements *= dimension;
    std::vector<float> values(elements);
    std::iota(values.begin(), values.end(), 0.0f);
    keys.tensor(name, dimensions, 0, packed_floats(values));
  }
  Model open() const {
    const TemporaryFolder folder;
    folder.write("m.gguf", keys.bytes());
    return open_model(real_file_system(), folder.path() / "m.gguf");
  }

 private:
  void in_layer(const std::string& name, const std::vector<std::uint64_t>& dimensions) {
    add("blk." + std::to_string(layer_) + "." + name, dimensions);
  }
  void add_apart(const std::string& architecture) {
    in_layer("attn_q.weight", {8, 8});
    in_layer("attn_k.weight", {8, 4});
    in_layer("attn_v.weight", {8, 4});
    if (architecture == "qwen2") {
      in_layer("attn_q.bias", {8});
      in_layer("attn_k.bias", {4});
      in_layer("attn_v.bias", {4});
    } else {
      in_layer("attn_q_norm.weight", {4});
      in_layer("attn_k_norm.weight", {4});
    }
    if (architecture == "gemma3") {
      in_layer("post_attention_norm.weight", {8});
      in_layer("post_ffw_norm.weight", {8});
    }
    if (architecture == "qwen3moe") {
      in_layer("ffn_gate_inp.weight", {8, 3});
      in_layer("ffn_gate_exps.weight", {8, 2, 3});
      in_layer("ffn_up_exps.weight", {8, 2, 3});
      in_layer("ffn_down_exps.weight", {2, 8, 3});
    } else {
      in_layer("ffn_gate.weight", {8, 6});
      in_layer("ffn_up.weight", {8, 6});
      in_layer("ffn_down.weight", {6, 8});
    }
  }

  int layer_ = 0;
};

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

std::vector<int> windows(const Model& model) {
  std::vector<int> tokens;
  for (const DecoderLayerSpec& layer : decoder(model).spec.layers) tokens.push_back(layer.window_tokens);
  return tokens;
}

void expect_refused(const DecoderGguf& file, const std::vector<std::string>& message) {
  expect_error(kCode, message, [&] { file.open(); });
}

TEST(GgufDecoders, Qwen2) {
  const Model model = DecoderGguf("qwen2", 1).open();
  EXPECT_EQ(model.architecture, "qwen2");
  EXPECT_EQ(model.kind, ModelKind::chat);
  EXPECT_TRUE(decoder(model).spec.qkv_bias);
  EXPECT_EQ(decoder(model).spec.rope.theta, 1000.0f);
  EXPECT_EQ(decoder(model).weights.layers[0].query.interleaved_heads, 0);
  EXPECT_TRUE(decoder(model).weights.layers[0].value_bias.has_value());
}

TEST(GgufDecoders, Qwen3) {
  const Model model = DecoderGguf("qwen3", 2).open();
  EXPECT_EQ(decoder(model).spec.query_key_norm, QueryKeyNorm::per_head);
  EXPECT_EQ(decoder(model).weights.layers[1].key_norm->tensor.name, "blk.1.attn_k_norm.weight");
  EXPECT_EQ(decoder(model).weights.layers[1].query.interleaved_heads, 0);
}

TEST(GgufDecoders, APoolingMakesAnEmbedder) {
  const auto pooled = [](std::uint32_t type) {
    DecoderGguf file("qwen3", 1);
    file.keys.integer("qwen3.pooling_type", type);
    return file;
  };
  const Model model = pooled(3).open();
  EXPECT_EQ(model.kind, ModelKind::embed);
  EXPECT_EQ(model.embedding.pooling, Pooling::last_token);
  EXPECT_TRUE(model.embedding.normalise);
  EXPECT_EQ(pooled(0).open().kind, ModelKind::chat);
  expect_refused(pooled(1), {"qwen3.pooling_type: 1 is not supported for a decoder", "3, the last token"});
  DecoderGguf reranker = pooled(4);  // its head is not what the message is about
  reranker.keys.tensor("cls.output.weight", {2}, 0, packed_floats({0.0f, 0.0f}));
  expect_refused(reranker, {"qwen3.pooling_type: 4 is not supported for a decoder"});
  expect_refused(pooled(5), {"qwen3.pooling_type: 5", "from 0 to 4"});
}

TEST(GgufDecoders, AWindowIsThatOfAllLayers) {
  DecoderGguf file("qwen3", 2);
  file.keys.integer("qwen3.attention.sliding_window", 16);
  EXPECT_THAT(windows(file.open()), ElementsAre(16, 16));
  DecoderGguf none("qwen3", 2);
  none.keys.integer("qwen3.attention.sliding_window", 0);
  EXPECT_THAT(windows(none.open()), ElementsAre(0, 0));
}

TEST(GgufDecoders, Qwen3MoeTakesItsStacksApart) {
  DecoderGguf file("qwen3moe", 1);
  file.keys.integer("qwen3moe.expert_count", 3)
      .integer("qwen3moe.expert_used_count", 2)
      .integer("qwen3moe.expert_feed_forward_length", 2);
  const Model model = file.open();
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_EQ(spec.experts->per_token, 2);
  EXPECT_TRUE(spec.experts->normalised);
  EXPECT_TRUE(spec.layers[0].experts);
  const DecoderLayerWeights& layer = decoder(model).weights.layers[0];
  ASSERT_EQ(layer.experts.size(), 3u);
  EXPECT_THAT(layer.experts[2].up.shape(), ElementsAre(2, 8));
  EXPECT_EQ(read_weight(layer.experts[2].up).front(), 32.0f);
  EXPECT_EQ(read_weight(layer.experts[1].down).back(), 31.0f);
  EXPECT_FALSE(layer.gate.has_value());
  EXPECT_EQ(layer.router->tensor.name, "blk.0.ffn_gate_inp.weight");
}

TEST(GgufDecoders, Qwen3MoeRefusesMoreThanItHas) {
  DecoderGguf file("qwen3moe", 1);
  file.keys.integer("qwen3moe.expert_count", 3)
      .integer("qwen3moe.expert_used_count", 4)
      .integer("qwen3moe.expert_feed_forward_length", 2);
  expect_refused(file, {"qwen3moe.expert_used_count: 4 is more than the 3 experts"});
  expect_refused(DecoderGguf("qwen3moe", 1), {"qwen3moe.expert_count: is missing"});
}

TEST(GgufDecoders, Phi3TakesFusedTensorsApart) {
  DecoderGguf file("phi3", 1);
  file.keys.integer("phi3.rope.dimension_count", 2);
  const Model model = file.open();
  const DecoderLayerWeights& layer = decoder(model).weights.layers[0];
  EXPECT_EQ(read_weight(layer.query).front(), 0.0f);
  EXPECT_EQ(read_weight(layer.key).front(), 64.0f);
  EXPECT_EQ(read_weight(layer.value).front(), 96.0f);
  EXPECT_EQ(read_weight(*layer.gate).front(), 0.0f);
  EXPECT_EQ(read_weight(*layer.up).front(), 48.0f);
  EXPECT_EQ(decoder(model).spec.rope.dims, 2);
}

TEST(GgufDecoders, Phi3RefusesLongrope) {
  DecoderGguf file("phi3", 1);
  file.add("rope_factors_long.weight", {2});
  expect_refused(file, {"rope_factors_long.weight", "longrope is not supported"});
}

TEST(GgufDecoders, Gemma3) {
  DecoderGguf file("gemma3", 7);
  file.keys.integer("gemma3.attention.sliding_window", 16);
  const Model model = file.open();
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_THAT(windows(model), ElementsAre(16, 16, 16, 16, 16, 0, 16));
  EXPECT_EQ(spec.rope.theta, 1000.0f);
  EXPECT_EQ(spec.window_rope->theta, 10000.0f);
  EXPECT_EQ(spec.attention_scale, 0.5f);
  EXPECT_EQ(spec.embedding_scale, std::sqrt(8.0f));
  EXPECT_EQ(spec.activation, Activation::gelu_tanh);
  EXPECT_TRUE(spec.pre_norm && spec.post_norm);
  const DecoderLayerWeights& layer = decoder(model).weights.layers[6];
  EXPECT_EQ(layer.mlp_post_norm->tensor.name, "blk.6.post_ffw_norm.weight");
  EXPECT_EQ(layer.attention_norm->plus, 0.0f);
}

TEST(GgufDecoders, Gemma3sRopeScalesFullAttentionOnly) {
  DecoderGguf file("gemma3", 1);
  file.keys.string("gemma3.rope.scaling.type", "linear").number("gemma3.rope.scaling.factor", 8.0f);
  file.keys.number("gemma3.rope.freq_base_swa", 500.0f);
  const Model model = file.open();
  EXPECT_EQ(decoder(model).spec.rope.factor, 8.0f);
  EXPECT_EQ(*decoder(model).spec.window_rope, (RopeSpec{.theta = 500.0f, .dims = 4}));
}

TEST(GgufDecoders, Gemma3sPatternIsANumberOrAList) {
  DecoderGguf number("gemma3", 3);
  number.keys.integer("gemma3.attention.sliding_window", 16).integer("gemma3.attention.sliding_window_pattern", 2);
  EXPECT_THAT(windows(number.open()), ElementsAre(16, 0, 16));
  DecoderGguf list("gemma3", 3);
  list.keys.integer("gemma3.attention.sliding_window", 16);
  DecoderGguf shorter = list;
  list.keys.booleans("gemma3.attention.sliding_window_pattern", {false, true, true});
  EXPECT_THAT(windows(list.open()), ElementsAre(0, 16, 16));
  shorter.keys.booleans("gemma3.attention.sliding_window_pattern", {true});
  expect_refused(shorter, {"sliding_window_pattern: 1 values for 3 layers"});
}

TEST(GgufDecoders, Gemma3RefusesSoftCaps) {
  DecoderGguf file("gemma3", 1);
  file.keys.number("gemma3.final_logit_softcapping", 30.0f);
  expect_refused(file, {"gemma3.final_logit_softcapping: 30", "soft caps are not supported"});
}

TEST(GgufDecoders, OpensGemma3AsItIsFetched) {
  const Model model = open_model(real_file_system(), default_model("gemma-3-270m-q4_k_m.gguf"));
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_EQ(spec.layers.size(), 18u);
  EXPECT_EQ(spec.layers[4].window_tokens, 512);
  EXPECT_EQ(spec.layers[5].attention, AttentionKind::full);
  EXPECT_EQ(spec.attention_scale, 1.0f / 16.0f);
  EXPECT_EQ(model.vocabulary(), 262144);
  EXPECT_THAT(model.stop_ids, testing::Contains(1));
  const auto& vocabulary = std::get<GgufVocabulary>(model.tokenizer);
  EXPECT_EQ(vocabulary.scores.size(), 262144u);
  EXPECT_FALSE(vocabulary.add_space_prefix);
  EXPECT_EQ(model.format, "GGUF Q5_0");
}

}  // namespace
}  // namespace cortex
