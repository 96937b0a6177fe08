#include "model/huggingface.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "fakes/faulty_file_system.h"
#include "model/safetensors.h"
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

TEST(HuggingFace, RefusesQuantisedSafetensorsByName) {
  const TemporaryModel folder("llama");
  folder.replace("config.json", "{", R"({"quantization": {"bits": 4, "group_size": 32},)");
  expect_error(ErrorCode::invalid_config, {"config.json: quantization", "not supported"}, [&] { folder.open(); });
}

std::string safetensors_of(const std::vector<TensorView>& tensors) {
  std::string header, data;
  for (const TensorView& tensor : tensors) {
    std::string bytes(tensor.bytes, '\0');
    tensor.file->read(tensor.offset, std::as_writable_bytes(std::span(bytes)));
    header += (header.empty() ? "{\"" : ",\"") + tensor.name + R"(":{"dtype":"F32","shape":)" +
              to_string(tensor.shape) + R"(,"data_offsets":[)" + std::to_string(data.size()) + "," +
              std::to_string(data.size() + bytes.size()) + "]}";
    data += bytes;
  }
  return safetensors_bytes(header + "}", data);
}

// The model's tensors over two files.
class ShardedModel : public TemporaryModel {
 public:
  ShardedModel() : TemporaryModel("llama") {
    tensors_ = read_safetensors(real_file_system().open(test_data("models/llama/model.safetensors")));
    remove("model.safetensors");
    const auto middle = tensors_.begin() + 7;
    write("one.safetensors", safetensors_of({tensors_.begin(), middle}));
    write("two.safetensors", safetensors_of({middle, tensors_.end()}));
    std::string map;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      map += (map.empty() ? "{\"" : ",\"") + tensors_[i].name +
             (i < 7 ? R"(":"one.safetensors")" : R"(":"two.safetensors")");
    }
    write("model.safetensors.index.json", R"({"metadata":{"total_size":1},"weight_map":)" + map + "}}");
  }
  const std::vector<TensorView>& tensors() const { return tensors_; }

 private:
  std::vector<TensorView> tensors_;
};

TEST(HuggingFace, ReadsShards) {
  const ShardedModel folder;
  const Model sharded = folder.open();
  const Model whole = open_model(real_file_system(), test_data("models/llama"));
  EXPECT_EQ(sharded.weight_bytes, whole.weight_bytes);
  const auto head_of = [](const Model& model) { return *std::get<DecoderModel>(model.network).weights.head; };
  EXPECT_EQ(read_weight(head_of(sharded)), read_weight(head_of(whole)));
}

TEST(HuggingFace, RefusesShardsThatDoNotFitTheirIndex) {
  const ShardedModel folder;
  const std::string index = folder.read("model.safetensors.index.json");
  folder.replace("model.safetensors.index.json", "one.safetensors", "../one.safetensors");
  expect_error(ErrorCode::invalid_path, {"index.json: weight_map", "../one.safetensors"}, [&] { folder.open(); });
  folder.write("model.safetensors.index.json", index);
  folder.replace("model.safetensors.index.json", "one.safetensors", "two.safetensors");
  expect_error(ErrorCode::invalid_weights, {"weight_map", "two.safetensors\" does not hold"}, [&] { folder.open(); });
  folder.write("model.safetensors.index.json", index);
  folder.write("two.safetensors", safetensors_of(folder.tensors()));
  expect_error(ErrorCode::invalid_weights, {"stands twice"}, [&] { folder.open(); });
  folder.remove("two.safetensors");
  expect_error(ErrorCode::invalid_weights, {"weight_map", "\"two.safetensors\" is missing"}, [&] { folder.open(); });
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
