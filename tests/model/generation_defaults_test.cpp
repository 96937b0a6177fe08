#include "model/generation_defaults.h"

#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

TEST(GenerationDefaults, AreRead) {
  const TemporaryModel folder("llama");
  EXPECT_EQ(folder.open().generation.temperature, std::nullopt);
  folder.write(
      "generation_config.json",
      R"({"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "repetition_penalty": 1.1, "do_sample": true})");
  const GenerationDefaults defaults = folder.open().generation;
  EXPECT_EQ(defaults.temperature, 0.6f);
  EXPECT_EQ(defaults.top_k, 20);
  EXPECT_EQ(defaults.top_p, 0.95f);
  EXPECT_EQ(defaults.min_p, 0.0f);
  EXPECT_EQ(defaults.repetition_penalty, 1.1f);
  EXPECT_EQ(defaults.do_sample, true);
}

TEST(GenerationDefaults, TopKIsOffInEitherSpelling) {
  const TemporaryModel folder("llama");
  for (const char* off : {"0", "-1"}) {
    folder.write("generation_config.json", std::string("{\"top_k\": ") + off + "}");
    EXPECT_EQ(folder.open().generation.top_k, 0) << off;
  }
}

// A request may not ask for these, so a model may not either.
TEST(GenerationDefaults, AreInTheRangesOfARequest) {
  const TemporaryModel folder("llama");
  const auto refused = [&](const char* field, const char* value, const char* range) {
    folder.write("generation_config.json", std::string("{\"") + field + "\": " + value + "}");
    expect_error(ErrorCode::invalid_config,
                 {std::string("generation_config.json: ") + field + ": " + value + " is not ", range},
                 [&] { folder.open(); });
  };
  refused("temperature", "-1", "from 0 to 2");
  refused("temperature", "2.5", "from 0 to 2");
  refused("top_p", "0", "above 0, up to 1");
  refused("top_p", "1e-60", "above 0, up to 1");
  refused("top_p", "1.5", "to 1");
  refused("min_p", "-0.5", "from 0 to 1");
  refused("min_p", "1.5", "from 0 to 1");
  refused("repetition_penalty", "0", "above 0, up to 2");
  refused("repetition_penalty", "2.5", "to 2");
  refused("top_k", "-2", "from -1 to 2147483647");
}

TEST(GenerationDefaults, StandInGgufUnderNamesOfTheirOwn) {
  const auto value = [](double number) { return Value{number}; };
  const Fields metadata("m.gguf", "", ErrorCode::invalid_config,
                        {{"general.sampling.temp", value(0.7)},
                         {"general.sampling.top_k", Value{std::int64_t{64}}},
                         {"general.sampling.top_p", value(0.95)},
                         {"general.sampling.min_p", value(0.05)},
                         {"general.sampling.penalty_repeat", value(1.1)},
                         {"", Value{false}}});
  const GenerationDefaults defaults = read_generation(metadata, kGgufGenerationFields);
  EXPECT_EQ(defaults.temperature, 0.7f);
  EXPECT_EQ(defaults.top_k, 64);
  EXPECT_EQ(defaults.top_p, 0.95f);
  EXPECT_EQ(defaults.min_p, 0.05f);
  EXPECT_EQ(defaults.repetition_penalty, 1.1f);
  EXPECT_EQ(defaults.do_sample, std::nullopt);
}

}  // namespace
}  // namespace cortex
