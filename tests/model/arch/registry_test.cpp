#include "model/arch/registry.h"

#include <gtest/gtest.h>

#include "model/weight_bytes.h"

namespace cortex {
namespace {

Fields naming(const char* field, const char* name) {
  return Fields("the file", "", ErrorCode::invalid_config, {{field, {std::string(name)}}});
}

TEST(Registry, FindsByName) {
  const Architecture& moe = huggingface_architecture(naming("model_type", "qwen3_moe"));
  EXPECT_EQ(moe.gguf_name, "qwen3moe");
  EXPECT_EQ(&gguf_architecture(naming("general.architecture", "qwen3moe")), &moe);
  EXPECT_EQ(huggingface_architecture(naming("model_type", "bert")).from_gguf, nullptr);
}

TEST(Registry, AnUnknownNameListsTheKnown) {
  expect_error(ErrorCode::invalid_config,
               {"the file: model_type: \"lama\"", "one of bert, camembert, gemma3_text, llama"},
               [] { huggingface_architecture(naming("model_type", "lama")); });
  expect_error(ErrorCode::invalid_config, {"the file: model_type: is missing"},
               [] { huggingface_architecture(naming("type", "llama")); });
}

TEST(Registry, EncodersAreNotOfGguf) {
  for (const char* name : {"bert", "modernbert", "", "qwen3_moe"}) {
    expect_error(ErrorCode::invalid_config,
                 {"the file: general.architecture", "decoders only", "one of gemma3, llama, phi3, qwen2"},
                 [&] { gguf_architecture(naming("general.architecture", name)); });
  }
}

}  // namespace
}  // namespace cortex
