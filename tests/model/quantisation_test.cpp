#include "model/quantisation.h"

#include <gtest/gtest.h>

#include "model/json_file.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr auto kCode = ErrorCode::invalid_config;

Quantisation read(const std::string& json) { return read_quantisation(parse_json_object(json, "config.json", kCode)); }

TEST(ReadQuantisation, AModelOfFloatsHasNone) {
  EXPECT_EQ(read("{}").standard, std::nullopt);
  EXPECT_EQ(read(R"({"quantization": null, "quantization_config": null})").format_of("lm_head"), std::nullopt);
}

TEST(ReadQuantisation, OneFormatForTheModelAndOthersForLayers) {
  const Quantisation quantisation = read(R"({"quantization": {"group_size": 64, "bits": 4, "mode": "affine",
      "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8}, "lm_head": false, "model.embed_tokens": true,
      "nothing": null}})");
  const AffineFormat standard{.bits = 4, .group_elements = 64};
  EXPECT_EQ(quantisation.standard, standard);
  EXPECT_EQ(quantisation.format_of("model.layers.0.mlp.up_proj"), standard);
  EXPECT_EQ(quantisation.format_of("nothing"), standard);
  EXPECT_EQ(quantisation.format_of("model.embed_tokens"), standard);
  EXPECT_EQ(quantisation.format_of("model.layers.0.mlp.down_proj"), (AffineFormat{.bits = 8, .group_elements = 32}));
  EXPECT_EQ(quantisation.format_of("lm_head"), std::nullopt);
}

TEST(ReadQuantisation, EveryWidthAndGroup) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      const Quantisation quantisation = read("{\"quantization\": {\"bits\": " + std::to_string(bits) +
                                             ", \"group_size\": " + std::to_string(group) + "}}");
      EXPECT_EQ(quantisation.standard, (AffineFormat{.bits = bits, .group_elements = group}));
    }
  }
}

TEST(ReadQuantisation, TheTwinCountsWhereItIsAlone) {
  EXPECT_EQ(read(R"({"quantization_config": {"group_size": 64, "bits": 4}})").format_of("x")->bits, 4);
  EXPECT_EQ(read(R"({"quantization": {"group_size": 64, "bits": 8},
                     "quantization_config": {"group_size": 64, "bits": 8}})")
                .format_of("x")
                ->bits,
            8);
}

TEST(ReadQuantisation, RefusesOtherQuantisersByName) {
  for (const std::string method : {"gptq", "awq", "bitsandbytes", "fp8", "mxfp4", "compressed-tensors"}) {
    expect_error(kCode, {"config.json: quantization_config.quant_method: \"" + method + "\"", "MLX's affine groups"},
                 [&] { read(R"({"quantization_config": {"quant_method": ")" + method + R"(", "bits": 4}})"); });
  }
}

TEST(ReadQuantisation, RefusesOtherModesByName) {
  for (const std::string mode : {"mxfp4", "nvfp4", "mxfp8"}) {
    expect_error(kCode, {"config.json: quantization.mode: \"" + mode + "\"", "only affine"},
                 [&] { read(R"({"quantization": {"group_size": 32, "bits": 4, "mode": ")" + mode + R"("}})"); });
  }
  expect_error(kCode, {"quantization.lm_head.mode: \"nvfp4\""}, [] {
    read(R"({"quantization": {"group_size": 32, "bits": 4,
                              "lm_head": {"group_size": 32, "bits": 4, "mode": "nvfp4"}}})");
  });
}

TEST(ReadQuantisation, NamesWhatIsMissingOrOutOfRange) {
  const auto refuse = [](const std::string& fields, const std::vector<std::string>& parts) {
    expect_error(kCode, parts, [&] { read("{\"quantization\": {" + fields + "}}"); });
  };
  refuse(R"("group_size": 64)", {"config.json: quantization.bits: is missing"});
  refuse(R"("bits": 4)", {"config.json: quantization.group_size: is missing"});
  refuse(R"("bits": 7, "group_size": 64)", {"quantization.bits: 7", "one of 2, 3, 4, 5, 6, 8"});
  refuse(R"("bits": 4, "group_size": 16)", {"quantization.group_size: 16", "one of 32, 64, 128"});
  refuse(R"("bits": 4, "group_size": 0)", {"quantization.group_size: 0", "one of 32, 64, 128"});
  refuse(R"("bits": -4, "group_size": 64)", {"quantization.bits: -4 is not an integer"});
  refuse(R"("bits": 4.5, "group_size": 64)", {"quantization.bits: 4.5 is not an integer"});
  refuse(R"("bits": 4, "group_size": 64, "mode": 3)", {"quantization.mode: 3 is not a string"});
  refuse(R"("bits": 4, "group_size": 64, "lm_head": "no")", {"quantization.lm_head: \"no\" is not true, false or"});
  refuse(R"("bits": 4, "group_size": 64, "lm_head": {"bits": 4})", {"quantization.lm_head.group_size: is missing"});
  refuse(R"("bits": 4, "group_size": 64, "lm_head": {"bits": 4, "group_size": 64, "rank": 1})",
         {"quantization.lm_head.rank", "is not one of bits, group_size, mode"});
  expect_error(kCode, {"config.json: quantization: 4 is not an object"}, [] { read(R"({"quantization": 4})"); });
}

}  // namespace
}  // namespace cortex
