#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

TEST(Phi3, TakesFusedTensorsApart) {
  const Model model = TemporaryModel("phi3").open();
  const DecoderWeights& weights = decoder(model).weights;
  const DecoderLayerWeights& layer = weights.layers[2];
  EXPECT_THAT(layer.query.shape(), ElementsAre(64, 64));
  EXPECT_THAT(layer.key.shape(), ElementsAre(32, 64));
  EXPECT_THAT(layer.up->shape(), ElementsAre(160, 64));
  const std::uint64_t row_bytes = 64 * sizeof(float);
  EXPECT_EQ(layer.key.tensor.offset, layer.query.tensor.offset + 64 * row_bytes);
  EXPECT_EQ(layer.value.tensor.offset, layer.key.tensor.offset + 32 * row_bytes);
  EXPECT_EQ(layer.up->tensor.offset, layer.gate->tensor.offset + 160 * row_bytes);
  EXPECT_EQ(layer.output.tensor.name, "model.layers.2.self_attn.o_proj.weight");
  EXPECT_EQ(decoder(model).spec.layers[0].attention, AttentionKind::full);
}

TEST(Phi3, MayTurnAPartOfAHeadAndSlide) {
  const TemporaryModel folder("phi3");
  folder.replace("config.json", "\"partial_rotary_factor\": 1.0", "\"partial_rotary_factor\": 0.75");
  folder.replace("config.json", "\"sliding_window\": null", "\"sliding_window\": 16");
  const Model model = folder.open();
  EXPECT_EQ(decoder(model).spec.rope.dims, 12);
  EXPECT_EQ(decoder(model).spec.layers[1].window_tokens, 16);
}

TEST(Phi3, HasAnEpsilonOfItsOwnWhereTheFileHasNone) {
  const TemporaryModel folder("phi3");
  folder.replace("config.json", "\"rms_norm_eps\"", "\"unused\"");
  EXPECT_EQ(decoder(folder.open()).spec.norm_epsilon, 1e-5f);
}

TEST(Phi3, RefusesLongropeByWhateverName) {
  for (const char* name : {"longrope", "su", "yarn"}) {
    const TemporaryModel folder("phi3");
    folder.replace("config.json", "\"rope_type\": \"default\"", std::string("\"rope_type\": \"") + name + "\"");
    expect_error(kCode, {"config.json: rope_parameters.rope_type", name, "longrope is not supported"},
                 [&] { folder.open(); });
  }
  const TemporaryModel old("phi3");
  old.replace("config.json", "\"rope_parameters\"", R"("rope_scaling": {"type": "longrope"}, "unused")");
  expect_error(kCode, {"rope_scaling.type: \"longrope\"", "plain rope"}, [&] { old.open(); });
}

}  // namespace
}  // namespace cortex
