#include "model/arch/registry.h"

#include <gtest/gtest.h>

#include "model/weight_bytes.h"

namespace cortex {
namespace {

Fields naming(const char* name) {
  return Fields("config.json", "", ErrorCode::invalid_config, {{"model_type", {std::string(name)}}});
}

TEST(Registry, FindsByName) {
  EXPECT_EQ(architecture_of(naming("llama"), "model_type").name, "llama");
  EXPECT_EQ(architecture_of(naming("bert"), "model_type").from_gguf, nullptr);
}

TEST(Registry, AnUnknownNameListsTheKnown) {
  expect_error(ErrorCode::invalid_config, {"config.json: model_type: \"lama\"", "bert, camembert, gemma3_text, llama"},
               [] { architecture_of(naming("lama"), "model_type"); });
  expect_error(ErrorCode::invalid_config, {"config.json: type: is missing"},
               [] { architecture_of(naming("llama"), "type"); });
}

}  // namespace
}  // namespace cortex
