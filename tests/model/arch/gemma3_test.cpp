
#include <gtest/gtest.h>

#include <cmath>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr auto kCode = ErrorCode::invalid_config;

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

TEST(Gemma3, ReadsItsSpecInBothForms) {
  for (const char* name : {"gemma3", "gemma3-old"}) {
    const Model model = TemporaryModel(name).open();
    const DecoderSpec& spec = decoder(model).spec;
    EXPECT_EQ(model.architecture, "gemma3_text");
    EXPECT_EQ(spec.head_dim, 32);
    EXPECT_EQ(spec.activation, Activation::gelu_tanh);
    EXPECT_EQ(spec.attention_scale, 1.0f / std::sqrt(32.0f));
    EXPECT_EQ(spec.embedding_scale, 8.0f);
    EXPECT_EQ(spec.query_key_norm, QueryKeyNorm::per_head);
    EXPECT_TRUE(spec.pre_norm);
    EXPECT_TRUE(spec.post_norm);
    EXPECT_TRUE(spec.tied_head);
    EXPECT_EQ(spec.layers[0].attention, AttentionKind::sliding_window);
    EXPECT_EQ(spec.layers[1].window_tokens, 16);
    EXPECT_EQ(spec.layers[2].attention, AttentionKind::full);
    EXPECT_EQ(spec.rope.theta, 1e6f);
    EXPECT_EQ(spec.window_rope->theta, 1e4f);
  }
}

TEST(Gemma3, PutsNormsInTheirSlotsAndAddsOne) {
  const Model model = TemporaryModel("gemma3").open();
  const DecoderLayerWeights& layer = decoder(model).weights.layers[1];
  const std::string at = "model.layers.1.";
  EXPECT_EQ(layer.attention_norm->tensor.name, at + "input_layernorm.weight");
  EXPECT_EQ(layer.attention_post_norm->tensor.name, at + "post_attention_layernorm.weight");
  EXPECT_EQ(layer.mlp_norm->tensor.name, at + "pre_feedforward_layernorm.weight");
  EXPECT_EQ(layer.mlp_post_norm->tensor.name, at + "post_feedforward_layernorm.weight");
  for (const auto* norm : {&layer.attention_norm, &layer.attention_post_norm, &layer.mlp_norm, &layer.mlp_post_norm,
                           &layer.query_norm, &layer.key_norm}) {
    EXPECT_EQ((*norm)->plus, 1.0f);
  }
  EXPECT_EQ(decoder(model).weights.final_norm.plus, 1.0f);
  EXPECT_EQ(decoder(model).weights.embedding.plus, 0.0f);
}

TEST(Gemma3, WindowsFollowAPatternWhereLayersAreNotListed) {
  const TemporaryModel folder("gemma3");
  folder.replace("config.json", "\"layer_types\"", "\"unused_layer_types\"");
  const Model model = folder.open();  // of six layers the last
  for (const DecoderLayerSpec& layer : decoder(model).spec.layers) EXPECT_EQ(layer.window_tokens, 16);
}

TEST(Gemma3, ScalesTheRopeOfFullAttentionOnly) {
  const TemporaryModel folder("gemma3-old");
  folder.replace("config.json", "\"rope_scaling\": null", R"("rope_scaling": {"rope_type": "linear", "factor": 8.0})");
  const Model model = folder.open();
  EXPECT_EQ(decoder(model).spec.rope.factor, 8.0f);
  EXPECT_EQ(decoder(model).spec.window_rope->scaling, RopeSpec::Scaling::none);
}

TEST(Gemma3, LeavesOutWhatTheMakersLeaveOut) {
  const TemporaryModel folder("gemma3-old");
  for (const char* field : {"tie_word_embeddings", "rope_theta", "rope_local_base_freq", "hidden_activation"}) {
    folder.replace("config.json", std::string("\"") + field, std::string("\"unused_") + field);
  }
  const Model model = folder.open();
  EXPECT_TRUE(decoder(model).spec.tied_head);
  EXPECT_EQ(decoder(model).spec.rope.theta, 1e6f);
  EXPECT_EQ(decoder(model).spec.window_rope->theta, 1e4f);
  EXPECT_EQ(decoder(model).spec.activation, Activation::gelu_tanh);
}

TEST(Gemma3, TheEmbeddingsScaleIsOfItsPrecision) {
  const auto scale_of = [](const char* dtype) {
    // One layer of two rows, all zero.
    std::string header, data;
    const auto add = [&](const std::string& name, const std::string& shape, std::size_t elements) {
      const std::size_t bytes = elements * (std::string(dtype) == "F32" ? 4 : 2);
      header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape +
                R"(,"data_offsets":[)" + std::to_string(data.size()) + "," + std::to_string(data.size() + bytes) + "]}";
      data.resize(data.size() + bytes);
    };
    const TemporaryModel folder("gemma3-old");
    folder.write("config.json", R"({"model_type": "gemma3_text", "vocab_size": 484, "hidden_size": 10, "head_dim": 2,
        "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
        "max_position_embeddings": 64})");
    add("model.embed_tokens.weight", "[484, 10]", 4840);
    add("model.norm.weight", "[10]", 10);
    for (const char* norm :
         {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"}) {
      add(std::string("model.layers.0.") + norm + ".weight", "[10]", 10);
    }
    for (const char* in :
         {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) {
      add(std::string("model.layers.0.") + in + ".weight", "[2, 10]", 20);
    }
    for (const char* out : {"self_attn.o_proj", "mlp.down_proj"}) {
      add(std::string("model.layers.0.") + out + ".weight", "[10, 2]", 20);
    }
    add("model.layers.0.self_attn.q_norm.weight", "[2]", 2);
    add("model.layers.0.self_attn.k_norm.weight", "[2]", 2);
    folder.write("model.safetensors", safetensors_bytes(header + "}", data));
    return decoder(folder.open()).spec.embedding_scale;
  };
  EXPECT_EQ(scale_of("F32"), std::sqrt(10.0f));
  EXPECT_EQ(scale_of("BF16"), 3.15625f);
  EXPECT_EQ(scale_of("F16"), 3.162109375f);
}

TEST(Gemma3, RefusesWhatIsNotSupported) {
  const auto refused = [](const char* from, const char* to, const std::vector<std::string>& message) {
    const TemporaryModel folder("gemma3");
    folder.replace("config.json", from, to);
    expect_error(kCode, message, [&] { folder.open(); });
  };
  refused("\"attn_logit_softcapping\": null", "\"attn_logit_softcapping\": 50.0",
          {"attn_logit_softcapping: 50", "soft caps are not supported"});
  refused("\"final_logit_softcapping\": null", "\"final_logit_softcapping\": 30.0", {"final_logit_softcapping: 30"});
  refused("\"use_bidirectional_attention\": false", "\"use_bidirectional_attention\": true",
          {"use_bidirectional_attention"});
  refused("{", R"({"vision_config": {}, )", {"vision_config", "models of more than text", "gemma3_text"});
  refused("\"query_pre_attn_scalar\": 32", "\"query_pre_attn_scalar\": 0", {"query_pre_attn_scalar: 0"});
}

}  // namespace
}  // namespace cortex
