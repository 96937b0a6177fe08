#include "model/huggingface.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <tuple>

#include "fakes/faulty_file_system.h"
#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

TEST(HuggingFace, OpensTheDefaultEncoder) {
  const Model model = open_model(real_file_system(), default_model("all-MiniLM-L6-v2"));
  const EncoderSpec& spec = std::get<EncoderModel>(model.network).spec;
  EXPECT_EQ(spec.layers.size(), 6u);
  EXPECT_EQ(spec.hidden, 384);
  EXPECT_EQ(spec.pooling, Pooling::mean);
  EXPECT_TRUE(model.embedding.normalise);
  EXPECT_EQ(model.context_tokens(), 256);
  EXPECT_EQ(model.weight_bytes, 90'856'960u);
  EXPECT_FALSE(model.chat_template.has_value());
}

TEST(HuggingFace, RefusesAModelWithoutItsFiles) {
  const TemporaryModel folder("llama");
  folder.remove("model.safetensors");
  expect_error(ErrorCode::invalid_path, {folder.path().string(), "neither model.safetensors"}, [&] { folder.open(); });
  folder.write("pytorch_model.bin", "x");
  expect_error(ErrorCode::invalid_path, {"pytorch_model.bin", "pickle weights are never loaded"},
               [&] { folder.open(); });
  folder.remove("config.json");
  expect_error(ErrorCode::invalid_path, {"has no config.json"}, [&] { folder.open(); });
}

TEST(HuggingFace, RefusesWhatStandsInPlaceOfTheWeights) {
  const TemporaryModel folder("llama");
  const auto weights = folder.path() / "model.safetensors";
  folder.remove("model.safetensors");
  ASSERT_EQ(::mkfifo(weights.c_str(), 0600), 0);
  expect_error(ErrorCode::invalid_path, {"model.safetensors", "not a regular file"}, [&] { folder.open(); });
  folder.remove("model.safetensors");
  std::filesystem::create_directory(weights);
  expect_error(ErrorCode::invalid_path, {"model.safetensors", "not a regular file"}, [&] { folder.open(); });
  folder.remove("model.safetensors");
  std::filesystem::create_symlink(test_data("models/llama/model.safetensors"), weights);
  expect_error(ErrorCode::invalid_path, {"model.safetensors", "out of the model's folder"}, [&] { folder.open(); });
}

TEST(HuggingFace, RefusesTruncatedWeights) {
  const TemporaryModel folder("llama");
  const auto size = std::filesystem::file_size(folder.path() / "model.safetensors");
  for (const auto kept : {size - 1, size / 2, std::uintmax_t{100}, std::uintmax_t{0}}) {
    std::filesystem::resize_file(folder.path() / "model.safetensors", kept);
    expect_error(ErrorCode::invalid_weights, {"model.safetensors"}, [&] { folder.open(); });
  }
}

TEST(HuggingFace, OpensMlxGroups) {
  for (const auto& [name, bits, group] : {std::tuple{"llama-mlx-q4", 4, 32}, {"llama-mlx-q8", 8, 64}}) {
    const Model model = open_model(real_file_system(), test_data(std::string("models/") + name));
    const auto& [spec, weights] = std::get<DecoderModel>(model.network);
    ASSERT_TRUE(weights.embedding.groups.has_value()) << name;
    EXPECT_EQ(weights.embedding.groups->bits, bits);
    EXPECT_EQ(weights.embedding.groups->group_elements, group);
    EXPECT_EQ(weights.layers[0].query.shape(), (std::vector<std::int64_t>{64, 64}));
    EXPECT_FALSE(weights.final_norm.groups.has_value());
  }
}

TEST(HuggingFace, RefusesGroupsThatDoNotFitTheirConfiguration) {
  const TemporaryModel folder("llama-mlx-q4");
  const std::string config = folder.read("config.json");
  folder.replace("config.json", R"("group_size": 32)", R"("group_size": 64)");
  expect_error(ErrorCode::invalid_weights,
               {"model.safetensors: tensor", ".scales", "shape [484, 2], expected [484, 1]"}, [&] { folder.open(); });
  folder.write("config.json", config);
  folder.replace("config.json", R"("bits": 4)", R"("bits": 8)");
  expect_error(ErrorCode::invalid_weights,
               {"model.safetensors: tensor", ".weight", "shape [484, 8], expected [484, 16]"}, [&] { folder.open(); });
  folder.write("config.json", config);
  folder.replace("config.json", R"("quantization")", R"("unknown")");
  expect_error(ErrorCode::invalid_weights, {"shape [484, 8], expected [484, 64]"}, [&] { folder.open(); });
}

TEST(HuggingFace, RefusesOtherQuantisersByName) {
  const TemporaryModel folder("llama");
  folder.replace("config.json", "{", R"({"quantization_config": {"quant_method": "gptq", "bits": 4},)");
  expect_error(ErrorCode::invalid_config, {"config.json: quantization_config.quant_method: \"gptq\""},
               [&] { folder.open(); });
}

TEST(HuggingFace, ADiskThatFailsIsNotABadModel) {
  const TemporaryModel folder("llama");
  FaultyFileSystem disk(real_file_system());
  disk.fail(FaultyFileSystem::Call::read, 2);  // config.json, then the length of the weights' header
  expect_error(ErrorCode::weights_io_error, {"model.safetensors", "injected fault"},
               [&] { open_model(disk, folder.path()); });
}

}  // namespace
}  // namespace cortex
