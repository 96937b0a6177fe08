#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

std::vector<int> windows(const Model& model) {
  std::vector<int> tokens;
  for (const DecoderLayerSpec& layer : decoder(model).spec.layers) tokens.push_back(layer.window_tokens);
  return tokens;
}

TEST(Mistral, ReadsItsSpec) {
  const Model model = TemporaryModel("mistral").open();
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_EQ(model.architecture, "mistral");
  EXPECT_EQ(model.kind, ModelKind::chat);
  EXPECT_EQ(spec.head_dim, 32);
  EXPECT_EQ(spec.rope.theta, 1e6f);
  EXPECT_FALSE(spec.tied_head);
  EXPECT_FALSE(spec.qkv_bias);
  EXPECT_EQ(spec.layers[0].attention, AttentionKind::full);
  EXPECT_THAT(decoder(model).weights.layers[2].query.tensor.shape, ElementsAre(128, 64));
}

TEST(Mistral, AWindowIsThatOfAllLayers) {
  const Model model = TemporaryModel("mistral-window").open();
  EXPECT_EQ(decoder(model).spec.layers[0].attention, AttentionKind::sliding_window);
  EXPECT_THAT(windows(model), ElementsAre(16, 16, 16));
  EXPECT_THAT(windows(TemporaryModel("mistral").open()), ElementsAre(0, 0, 0));
}

TEST(Mistral, AWindowThatIsNotMentionedIsItsFirstModels) {
  const TemporaryModel folder("mistral");
  folder.replace("config.json", "\"sliding_window\": null", "\"unused\": null");
  EXPECT_THAT(windows(folder.open()), ElementsAre(4096, 4096, 4096));
}

TEST(Mistral, AHeadsSizeMayBeLeftOut) {
  const TemporaryModel folder("mistral");
  folder.replace("config.json", "\"head_dim\": 32", "\"head_dim\": null");
  expect_error(ErrorCode::invalid_weights, {"q_proj.weight", "shape [128, 64], expected [64, 64]"},
               [&] { folder.open(); });
}

TEST(Mistral, RefusesAWindowThatIsNone) {
  const TemporaryModel folder("mistral-window");
  folder.replace("config.json", "\"sliding_window\": 16", "\"sliding_window\": 0");
  expect_error(kCode, {"config.json: sliding_window: 0 is not an integer from 1"}, [&] { folder.open(); });
}

}  // namespace
}  // namespace cortex
