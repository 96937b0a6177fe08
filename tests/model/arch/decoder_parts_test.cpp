#include "model/arch/decoder_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/json_file.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr auto kCode = ErrorCode::invalid_config;

// A small configuration; `changes` are appended, and what they name is left out of the base.
DecoderSpec read(const std::vector<std::pair<std::string, std::string>>& changes) {
  std::vector<std::pair<std::string, std::string>> fields = {
      {"model_type", "\"llama\""}, {"vocab_size", "100"},        {"hidden_size", "32"},
      {"intermediate_size", "64"}, {"num_hidden_layers", "2"},   {"num_attention_heads", "4"},
      {"rms_norm_eps", "1e-5"},    {"num_key_value_heads", "2"}, {"max_position_embeddings", "128"}};
  std::string text;
  const auto add = [&](const auto& field) {
    text += (text.empty() ? "{\"" : ",\"") + field.first + "\":" + field.second;
  };
  for (const auto& field : fields) {
    bool changed = false;
    for (const auto& change : changes) changed |= change.first == field.first;
    if (!changed) add(field);
  }
  for (const auto& change : changes) add(change);
  return read_decoder_config(parse_json_object(text + "}", "config.json", kCode));
}

void expect_refused(const std::string& field, const std::string& value, const std::vector<std::string>& message) {
  SCOPED_TRACE(field + " = " + value);
  std::vector<std::string> parts = message;
  parts.push_back("config.json: ");
  expect_error(kCode, parts, [&] { read({{field, value}}); });
}

TEST(DecoderParts, ReadsDimensions) {
  const DecoderSpec spec = read({});
  EXPECT_EQ(spec.vocabulary, 100);
  EXPECT_EQ(spec.hidden, 32);
  EXPECT_EQ(spec.heads, 4);
  EXPECT_EQ(spec.kv_heads, 2);
  EXPECT_EQ(spec.head_dim, 8);
  EXPECT_EQ(spec.layers.size(), 2u);
  EXPECT_EQ(spec.norm_epsilon, 1e-5f);
  EXPECT_EQ(spec.activation, Activation::silu);
  EXPECT_TRUE(spec.pre_norm);
  EXPECT_FALSE(spec.post_norm);
  EXPECT_EQ(spec.layers[1].attention, AttentionKind::full);
  EXPECT_FALSE(spec.tied_head);
}

TEST(DecoderParts, FillsInWhatOlderFilesLeaveOut) {
  EXPECT_EQ(read({{"num_key_value_heads", "null"}}).kv_heads, 4);
  EXPECT_EQ(read({{"head_dim", "16"}}).head_dim, 16);
  EXPECT_EQ(read({{"rms_norm_eps", "null"}}).norm_epsilon, 1e-6f);
}

TEST(DecoderParts, SizesAreBoundedBeforeAnythingIsAllocated) {
  for (const char* field : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                            "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const char* value : {"0", "-1", "1000000000", "1.5", "\"8\"", "99999999999999999999"}) {
      expect_refused(field, value, {field, "is not an integer from 1 to"});
    }
  }
}

TEST(DecoderParts, HeadsDivide) {
  expect_refused("num_attention_heads", "6", {"num_attention_heads: 6", "hidden size of 32"});
  expect_refused("num_key_value_heads", "3", {"num_key_value_heads: 3", "4 attention heads"});
}

TEST(DecoderParts, RefusesAttentionToWhatFollows) {
  EXPECT_EQ(read({{"is_causal", "true"}}).hidden, 32);
  expect_refused("is_causal", "false", {"is_causal: false is not supported"});
}

TEST(DecoderParts, NumbersAreFiniteAndInRange) {
  expect_refused("rms_norm_eps", "0", {"rms_norm_eps: 0"});
  expect_refused("rms_norm_eps", "-1e-5", {"rms_norm_eps"});
  expect_refused("rms_norm_eps", "NaN", {"not valid JSON"});
}

TEST(DecoderParts, AnArchitecturesDefaults) {
  const Fields config = parse_json_object(R"({"model_type": "x", "vocab_size": 8, "hidden_size": 32,
      "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 3, "max_position_embeddings": 64})",
                                          "config.json", kCode);
  const DecoderSpec spec = read_decoder_config(config, {.head_dim = 24,
                                                        .tied_head = true,
                                                        .activation_field = "hidden_activation",
                                                        .activation = Activation::gelu_tanh});
  EXPECT_EQ(spec.head_dim, 24);
  EXPECT_TRUE(spec.tied_head);
  EXPECT_EQ(spec.activation, Activation::gelu_tanh);
}

Fields config_of(const std::string& text) { return parse_json_object(text, "config.json", kCode); }

std::vector<int> windows_of(const DecoderSpec& spec) {
  std::vector<int> windows;
  for (const DecoderLayerSpec& layer : spec.layers) {
    EXPECT_EQ(layer.attention == AttentionKind::sliding_window, layer.window_tokens > 0);
    windows.push_back(layer.window_tokens);
  }
  return windows;
}

std::vector<int> late_windows(const std::string& config) {
  DecoderSpec spec;
  spec.layers.resize(4);
  read_late_windows(config_of(config), &spec);
  return windows_of(spec);
}

TEST(DecoderParts, WindowsOfTheLaterLayers) {
  EXPECT_THAT(late_windows(R"({"sliding_window": 8, "max_window_layers": 2})"), testing::ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(late_windows(R"({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2})"),
              testing::ElementsAre(0, 0, 8, 8));
  EXPECT_THAT(late_windows(R"({"use_sliding_window": true, "sliding_window": 8})"), testing::ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(late_windows(R"({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0})"),
              testing::ElementsAre(0, 0, 0, 0));
}

TEST(DecoderParts, AListOfLayersGoesFirst) {
  const std::string list =
      R"("layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"])";
  EXPECT_THAT(late_windows(R"({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2,)" + list + "}"),
              testing::ElementsAre(8, 0, 0, 8));
  expect_error(kCode, {"config.json: sliding_window: is off or missing, but layer 0 slides"},
               [&] { late_windows(R"({"use_sliding_window": false, "sliding_window": 8,)" + list + "}"); });
  expect_error(kCode, {"layer_types: 1 types for 4 layers"},
               [] { late_windows(R"({"layer_types": ["full_attention"]})"); });
  expect_error(kCode, {"layer_types: \"chunked_attention\"", "full_attention, sliding_attention"}, [] {
    late_windows(R"({"layer_types": ["full_attention", "chunked_attention", "full_attention", "full_attention"]})");
  });
  expect_error(kCode, {"layer_types: 3 is not supported"}, [] { late_windows(R"({"layer_types": [3, 3, 3, 3]})"); });
  expect_error(kCode, {"sliding_window: 0"},
               [] { late_windows(R"({"use_sliding_window": true, "sliding_window": 0})"); });
}

TEST(DecoderParts, Activations) {
  EXPECT_EQ(read({{"hidden_act", "\"gelu\""}}).activation, Activation::gelu);
  EXPECT_EQ(read({{"hidden_act", "\"gelu_new\""}}).activation, Activation::gelu_tanh);
  EXPECT_EQ(read({{"hidden_act", "\"gelu_pytorch_tanh\""}}).activation, Activation::gelu_tanh);
  expect_refused("hidden_act", "\"relu\"", {"hidden_act: \"relu\"", "silu", "gelu"});
}

}  // namespace
}  // namespace cortex
