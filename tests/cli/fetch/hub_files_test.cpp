#include "cli/fetch/hub_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace cortex {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::vector<HubFile> files_of(const std::vector<std::string>& paths) {
  std::vector<HubFile> files;
  for (const auto& path : paths) files.push_back({path, 1024, ""});
  return files;
}

std::vector<std::string> chosen(const std::vector<std::string>& paths, const std::string& file = {}) {
  std::vector<std::string> out;
  for (const auto& one : choose_files(files_of(paths), {"acme/tiny", "main", file})) out.push_back(one.path);
  return out;
}

std::string message_of(ErrorCode code, const std::vector<std::string>& paths, const std::string& file = {}) {
  try {
    chosen(paths, file);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.message();
    return error.message();
  }
  return "something was chosen";
}

TEST(ChooseFiles, TakesWhatAModelNeeds) {
  EXPECT_THAT(chosen({".gitattributes", "README.md", "config.json", "generation_config.json", "model.safetensors",
                      "pytorch_model.bin", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.txt",
                      "chat_template.jinja", "tf_model.h5", "flax_model.msgpack", "training_args.bin", "x.py"}),
              ElementsAre("config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                          "tokenizer_config.json", "chat_template.jinja"));
}

TEST(ChooseFiles, TakesAllShardsAndNoSecondSet) {
  EXPECT_THAT(chosen({"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                      "model.safetensors.index.json", "consolidated.safetensors", "original/model.safetensors"}),
              ElementsAre("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json"));
}

TEST(ChooseFiles, TakesModulesBeside) {
  EXPECT_THAT(chosen({"1_Pooling/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "config.json",
                      "model.safetensors", "modules.json", "onnx/config.json", "openvino/model.json",
                      "additional_chat_templates/tool_use.jinja"}),
              ElementsAre("1_Pooling/config.json", "2_Dense/model.safetensors", "config.json", "model.safetensors",
                          "modules.json", "additional_chat_templates/tool_use.jinja"));
}

TEST(ChooseFiles, TheOnlyGgufIsMeant) {
  EXPECT_THAT(chosen({"README.md", "config.json", "mmproj-F16.gguf", "tiny-Q4_K_M.gguf"}),
              ElementsAre("tiny-Q4_K_M.gguf"));
}

TEST(ChooseFiles, OfSeveralGgufOneIsNamed) {
  const std::vector<std::string> paths = {"tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "BF16/tiny-BF16-00001-of-00002.gguf"};
  EXPECT_THAT(message_of(ErrorCode::invalid_value, paths),
              AllOf(HasSubstr(":tiny-Q4_K_M.gguf  (1.0 KiB)"), HasSubstr(":tiny-Q8_0.gguf"), Not(HasSubstr("BF16"))));
  EXPECT_THAT(chosen(paths, "q8_0"), ElementsAre("tiny-Q8_0.gguf"));
  EXPECT_THAT(chosen(paths, "tiny-Q4_K_M.gguf"), ElementsAre("tiny-Q4_K_M.gguf"));
  EXPECT_THAT(message_of(ErrorCode::invalid_value, paths, "Q2_K"),
              AllOf(HasSubstr("\"Q2_K\" is not there"), HasSubstr(":tiny-Q8_0.gguf")));
}

TEST(ChooseFiles, AModelInSeveralPartsIsRefused) {
  const std::vector<std::string> paths = {"Q8_0/big-Q8_0-00001-of-00002.gguf", "Q8_0/big-Q8_0-00002-of-00002.gguf",
                                          "README.md"};
  EXPECT_THAT(message_of(ErrorCode::model_not_found, paths), HasSubstr("in several parts"));
  EXPECT_THAT(message_of(ErrorCode::invalid_value, paths, "Q8_0"), HasSubstr("in several parts"));
  EXPECT_THAT(message_of(ErrorCode::invalid_value, paths, paths[0]), HasSubstr("in several parts"));
  EXPECT_THAT(message_of(ErrorCode::invalid_value, {paths[0], paths[1], "big-Q4_0.gguf"}, "q8_0"),
              AllOf(HasSubstr("in several parts"), HasSubstr(":big-Q4_0.gguf")));
}

TEST(ChooseFiles, OnlyAModelIsNamed) {
  const std::vector<std::string> paths = {"README.md", "mmproj-F16.gguf", "model.safetensors", "tiny-Q4_0.gguf"};
  for (const auto& path : {paths[0], paths[1], paths[2]}) {
    EXPECT_THAT(message_of(ErrorCode::invalid_value, paths, path),
                AllOf(HasSubstr("is no .gguf model"), HasSubstr(":tiny-Q4_0.gguf")));
  }
}

TEST(ChooseFiles, AModelOfOnePartIsWhole) {
  EXPECT_THAT(chosen({"tiny-00001-of-00001.gguf"}), ElementsAre("tiny-00001-of-00001.gguf"));
}

TEST(ChooseFiles, SuffixesInAnyCase) { EXPECT_THAT(chosen({"README.md", "Tiny.GGUF"}), ElementsAre("Tiny.GGUF")); }

TEST(ChooseFiles, NeverAPickle) {
  EXPECT_THAT(message_of(ErrorCode::model_not_found, {"config.json", "pytorch_model.bin"}),
              HasSubstr("pickle weights are never loaded"));
  EXPECT_THAT(message_of(ErrorCode::invalid_value, {"pytorch_model.bin"}, "pytorch_model.bin"),
              HasSubstr("pickle weights are never loaded"));
  EXPECT_THAT(message_of(ErrorCode::model_not_found, {"README.md"}), HasSubstr("neither .safetensors"));
}

}  // namespace
}  // namespace cortex
