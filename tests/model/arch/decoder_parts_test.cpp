#include "model/arch/decoder_parts.h"

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
  EXPECT_EQ(spec.rope.dims, 8);
  EXPECT_EQ(spec.rope.theta, 10000.0f);
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
  expect_refused("head_dim", "7", {"head_dim", "an even number from 2 to 7"});
}

TEST(DecoderParts, NumbersAreFiniteAndInRange) {
  expect_refused("rms_norm_eps", "0", {"rms_norm_eps: 0"});
  expect_refused("rms_norm_eps", "-1e-5", {"rms_norm_eps"});
  expect_refused("rope_theta", "0", {"rope_theta: 0"});
  expect_refused("rope_theta", "NaN", {"not valid JSON"});
  expect_refused("rope_theta", "\"NaN\"", {"rope_theta: \"NaN\" is not a number"});
  expect_refused("rope_parameters", "{\"rope_theta\": -5}", {"rope_parameters.rope_theta: -5"});
  expect_refused("rope_scaling", "{\"type\": \"linear\", \"factor\": 0}", {"rope_scaling.factor: 0"});
}

const char* const kLlama3 =
    R"("rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
       "original_max_position_embeddings": 64)";

void expect_llama3(const RopeSpec& rope) {
  EXPECT_EQ(rope.theta, 500000.0f);
  EXPECT_EQ(rope.scaling, RopeSpec::Scaling::llama3);
  EXPECT_EQ(rope.factor, 8.0f);
  EXPECT_EQ(rope.low_frequency_factor, 1.0f);
  EXPECT_EQ(rope.high_frequency_factor, 4.0f);
  EXPECT_EQ(rope.original_context, 64);
}

TEST(DecoderParts, RopeInItsOldAndNewForm) {
  expect_llama3(read({{"rope_parameters", std::string("{\"rope_theta\": 500000.0, ") + kLlama3 + "}"}}).rope);
  expect_llama3(read({{"rope_theta", "500000"}, {"rope_scaling", std::string("{") + kLlama3 + "}"}}).rope);
  const RopeSpec linear = read({{"rope_scaling", R"({"type": "linear", "factor": 2.0})"}}).rope;
  EXPECT_EQ(linear.scaling, RopeSpec::Scaling::linear);
  EXPECT_EQ(linear.factor, 2.0f);
  const RopeSpec plain = read({{"rope_parameters", R"({"rope_type": "default", "rope_theta": 77.0})"}}).rope;
  EXPECT_EQ(plain.scaling, RopeSpec::Scaling::none);
  EXPECT_EQ(plain.theta, 77.0f);
  EXPECT_EQ(read({{"partial_rotary_factor", "0.5"}}).rope.dims, 4);
  const RopeSpec untyped =
      read({{"rope_parameters", R"({"rope_theta": 77.0, "partial_rotary_factor": 0.5, "factor": null})"}}).rope;
  EXPECT_EQ(untyped.scaling, RopeSpec::Scaling::none);
  EXPECT_EQ(untyped.dims, 4);
}

TEST(DecoderParts, RefusesOtherRopes) {
  expect_refused("rope_scaling", R"({"type": "yarn", "factor": 2.0})",
                 {"rope_scaling.type: \"yarn\"", "default, linear, llama3"});
  expect_refused("rope_parameters", R"({"rope_type": "longrope"})", {"rope_parameters.rope_type: \"longrope\""});
  expect_refused("rope_scaling", R"({"rope_type": "llama3", "factor": 8.0})",
                 {"rope_scaling.low_freq_factor: is missing"});
  expect_refused("rope_scaling",
                 R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 64})",
                 {"high_freq_factor: 4 is not above"});
  expect_refused("rope_scaling", R"({"factor": 8})", {"rope_scaling.factor: 8", "without a rope_type"});
  expect_refused("rope_parameters", R"({"rope_theta": 9.0, "low_freq_factor": 2})",
                 {"rope_parameters.low_freq_factor: 2", "without a rope_type"});
  expect_refused("partial_rotary_factor", "0.1", {"rope turns 0 elements"});
}

TEST(DecoderParts, Activations) {
  EXPECT_EQ(read({{"hidden_act", "\"gelu\""}}).activation, Activation::gelu);
  EXPECT_EQ(read({{"hidden_act", "\"gelu_new\""}}).activation, Activation::gelu_tanh);
  EXPECT_EQ(read({{"hidden_act", "\"gelu_pytorch_tanh\""}}).activation, Activation::gelu_tanh);
  expect_refused("hidden_act", "\"relu\"", {"hidden_act: \"relu\"", "silu", "gelu"});
}

}  // namespace
}  // namespace cortex
