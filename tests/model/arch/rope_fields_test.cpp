#include "model/arch/rope_fields.h"

#include <gtest/gtest.h>

#include "model/json_file.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr auto kCode = ErrorCode::invalid_config;
constexpr int kHeadDim = 8;

Fields config_of(const std::string& fields) {
  return parse_json_object(R"({"max_position_embeddings": 128)" + (fields.empty() ? "" : ", " + fields) + "}",
                           "config.json", kCode);
}

RopeSpec read(const std::string& fields) { return read_rope(config_of(fields), kHeadDim); }

void expect_refused(const std::string& fields, std::vector<std::string> message) {
  SCOPED_TRACE(fields);
  message.push_back("config.json: ");
  expect_error(kCode, message, [&] { read(fields); });
}

TEST(RopeFields, WithoutAnyTheWholeHeadTurns) {
  EXPECT_EQ(read(""), (RopeSpec{.dims = kHeadDim}));
  EXPECT_EQ(read(R"("rope_theta": null, "rope_scaling": null)"), (RopeSpec{.dims = kHeadDim}));
}

TEST(RopeFields, NumbersAreFiniteAndInRange) {
  expect_refused(R"("rope_theta": 0)", {"rope_theta: 0"});
  expect_refused(R"("rope_theta": "NaN")", {"rope_theta: \"NaN\" is not a number"});
  expect_refused(R"("rope_parameters": {"rope_theta": -5})", {"rope_parameters.rope_theta: -5"});
  expect_refused(R"("rope_scaling": {"type": "linear", "factor": 0})", {"rope_scaling.factor: 0"});
  expect_error(kCode, {"head_dim", "an even number from 2 to 7"}, [] { read_rope(config_of(""), 7); });
  expect_refused(R"("partial_rotary_factor": 0.1)", {"rope turns 0 elements"});
}

const char* const kLlama3 = R"("rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0)";
const RopeSpec kLlama3Rope = {.theta = 500000.0f,
                              .dims = kHeadDim,
                              .scaling = RopeSpec::Scaling::llama3,
                              .factor = 8.0f,
                              .low_frequency_factor = 1.0f,
                              .high_frequency_factor = 4.0f,
                              .original_context = 64};

TEST(RopeFields, Llama3InItsOldAndNewForm) {
  const std::string scaling = std::string(kLlama3) + R"(, "original_max_position_embeddings": 64)";
  EXPECT_EQ(read(R"("rope_parameters": {"rope_theta": 500000.0, )" + scaling + "}"), kLlama3Rope);
  EXPECT_EQ(read(R"("rope_theta": 500000, "rope_scaling": {)" + scaling + "}"), kLlama3Rope);
}

TEST(RopeFields, TheOriginalContextMayStandOutsideOrBeTheContext) {
  const std::string scaling = std::string(R"("rope_scaling": {)") + kLlama3 + "}";
  EXPECT_EQ(read(scaling).original_context, 128);
  EXPECT_EQ(read(scaling + R"(, "original_max_position_embeddings": 32)").original_context, 32);
}

TEST(RopeFields, LinearAndPlain) {
  const RopeSpec linear = read(R"("rope_scaling": {"type": "linear", "factor": 2.0})");
  EXPECT_EQ(linear, (RopeSpec{.dims = kHeadDim, .scaling = RopeSpec::Scaling::linear, .factor = 2.0f}));
  EXPECT_EQ(read(R"("rope_parameters": {"rope_type": "default", "rope_theta": 77.0})"),
            (RopeSpec{.theta = 77.0f, .dims = kHeadDim}));
  EXPECT_EQ(read(R"("partial_rotary_factor": 0.5)").dims, 4);
  EXPECT_EQ(read(R"("rope_parameters": {"rope_theta": 77.0, "partial_rotary_factor": 0.5, "factor": null})"),
            (RopeSpec{.theta = 77.0f, .dims = 4}));
}

TEST(RopeFields, Yarn) {
  const RopeSpec rope = read(R"("rope_theta": 1000000.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                                "original_max_position_embeddings": 32})");
  EXPECT_EQ(rope.scaling, RopeSpec::Scaling::yarn);
  EXPECT_EQ(rope.factor, 4.0f);
  EXPECT_EQ(rope.original_context, 32);
  EXPECT_EQ(rope.beta_fast, 32.0f);
  EXPECT_EQ(rope.beta_slow, 1.0f);
  EXPECT_TRUE(rope.truncate);
  EXPECT_FLOAT_EQ(rope.magnitude, 1.1386294f);
}

TEST(RopeFields, YarnsMagnitudeIsStatedOrComputed) {
  const auto magnitude = [](const std::string& more) {
    return read(R"("rope_parameters": {"type": "yarn", "factor": 4.0)" + more + "}").magnitude;
  };
  EXPECT_EQ(magnitude(R"(, "attention_factor": 1.5, "mscale": 2.0, "mscale_all_dim": 1.0)"), 1.5f);
  EXPECT_FLOAT_EQ(magnitude(R"(, "mscale": 2.0, "mscale_all_dim": 1.0)"), 1.2772589f / 1.1386294f);
  EXPECT_FLOAT_EQ(magnitude(R"(, "mscale": 2.0)"), 1.1386294f);
  EXPECT_FLOAT_EQ(magnitude(R"(, "mscale": 2.0, "mscale_all_dim": 0)"), 1.1386294f);
  EXPECT_EQ(read(R"("rope_scaling": {"type": "yarn", "factor": 0.5})").magnitude, 1.0f);
}

TEST(RopeFields, YarnsRange) {
  const RopeSpec rope =
      read(R"("rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 16, "beta_slow": 2, "truncate": false})");
  EXPECT_EQ(rope.beta_fast, 16.0f);
  EXPECT_EQ(rope.beta_slow, 2.0f);
  EXPECT_FALSE(rope.truncate);
  expect_refused(R"("rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 1})",
                 {"rope_scaling.beta_fast: 1 is not above beta_slow, 1"});
  expect_refused(R"("rope_theta": 1, "rope_scaling": {"type": "yarn", "factor": 4.0})", {"rope_theta: 1", "above 1"});
  expect_refused(R"("rope_scaling": {"type": "yarn"})", {"rope_scaling.factor: is missing"});
}

TEST(RopeFields, RefusesOthers) {
  expect_refused(R"("rope_parameters": {"rope_type": "longrope"})",
                 {"rope_parameters.rope_type: \"longrope\"", "default, linear, llama3, yarn"});
  expect_refused(R"("rope_scaling": {"type": "dynamic", "factor": 2.0})", {"rope_scaling.type: \"dynamic\""});
  expect_refused(R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0})",
                 {"rope_scaling.low_freq_factor: is missing"});
  expect_refused(
      R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0})",
      {"high_freq_factor: 4 is not above"});
  expect_refused(R"("rope_scaling": {"factor": 8})", {"rope_scaling.factor: 8", "without a rope_type"});
  expect_refused(R"("rope_parameters": {"rope_theta": 9.0, "low_freq_factor": 2})",
                 {"rope_parameters.low_freq_factor: 2", "without a rope_type"});
  expect_refused(R"("rope_parameters": {"rope_theta": 9.0}, "rope_scaling": {"type": "linear", "factor": 2})",
                 {"rope_scaling: stands beside rope_parameters"});
}

constexpr LayerRopeFields kFull = {.layer_type = kFullAttention, .theta_field = "rope_theta", .default_theta = 1000.0f};
constexpr LayerRopeFields kWindow = {
    .layer_type = kSlidingAttention, .theta_field = "local_theta", .default_theta = 100.0f, .scaled = false};

TEST(RopeFields, KindsOfLayersHaveTheirOwn) {
  const Fields newer = config_of(R"("rope_parameters": {
      "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}})");
  const Fields older =
      config_of(R"("rope_theta": 5000.0, "local_theta": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0})");
  const RopeSpec full = {.theta = 5000.0f, .dims = kHeadDim, .scaling = RopeSpec::Scaling::linear, .factor = 8.0f};
  const RopeSpec window = {.theta = 50.0f, .dims = kHeadDim};
  for (const Fields* config : {&newer, &older}) {
    EXPECT_EQ(read_layer_rope(*config, kFull, kHeadDim), full);
    EXPECT_EQ(read_layer_rope(*config, kWindow, kHeadDim), window);
  }
}

TEST(RopeFields, KindsOfLayersHaveTheirDefaults) {
  const Fields none = config_of("");
  EXPECT_EQ(read_layer_rope(none, kFull, kHeadDim).theta, 1000.0f);
  EXPECT_EQ(read_layer_rope(none, kWindow, kHeadDim).theta, 100.0f);
  const Fields half = config_of(R"("local_theta": 50.0, "rope_parameters": {"full_attention": {"rope_theta": 7.0},
                                    "sliding_attention": null})");
  EXPECT_EQ(read_layer_rope(half, kFull, kHeadDim).theta, 7.0f);
  EXPECT_EQ(read_layer_rope(half, kWindow, kHeadDim).theta, 50.0f);
}

TEST(RopeFields, NothingStandsBesideTheKindsOfLayers) {
  const Fields flat = config_of(R"("rope_parameters": {"rope_theta": 7.0})");
  expect_error(kCode, {"rope_parameters.rope_theta: 7 is not a kind of layer", "full_attention and sliding_attention"},
               [&] { read_layer_rope(flat, kFull, kHeadDim); });
  const Fields wrong = config_of(R"("rope_parameters": {"full_attention": {"rope_type": "longrope"}})");
  expect_error(kCode, {"rope_parameters.full_attention.rope_type: \"longrope\""},
               [&] { read_layer_rope(wrong, kFull, kHeadDim); });
}

}  // namespace
}  // namespace cortex
