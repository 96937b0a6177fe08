#include "model/safetensors_index.h"

#include <gtest/gtest.h>

#include "model/safetensors.h"
#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr const char* kIndex = "model.safetensors.index.json";

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
    write(kIndex, R"({"metadata":{"total_size":1},"weight_map":)" + map + "}}");
  }
  const std::vector<TensorView>& tensors() const { return tensors_; }

 private:
  std::vector<TensorView> tensors_;
};

TEST(SafetensorsIndex, AShardedModelIsTheWholeOne) {
  const ShardedModel folder;
  const Model sharded = folder.open();
  const Model whole = open_model(real_file_system(), test_data("models/llama"));
  EXPECT_EQ(sharded.weight_bytes, whole.weight_bytes);
  const auto head_of = [](const Model& model) { return *std::get<DecoderModel>(model.network).weights.head; };
  EXPECT_EQ(read_weight(head_of(sharded)), read_weight(head_of(whole)));
}

TEST(SafetensorsIndex, NamesFilesBesideItself) {
  for (const std::string name : {"../../x", "../one.safetensors", "/etc/passwd", "..", ".", "", "folder/one"}) {
    const ShardedModel folder;
    folder.replace(kIndex, "one.safetensors", name);
    expect_error(
        ErrorCode::invalid_path,
        {std::string(kIndex) + ": weight_map." + folder.tensors()[0].name, "\"" + name + "\" is not the name of"},
        [&] { folder.open(); });
  }
}

TEST(SafetensorsIndex, AFileMayNotLeadOutOfTheFolder) {
  const ShardedModel folder;
  folder.remove("one.safetensors");
  std::filesystem::create_symlink(test_data("models/llama/model.safetensors"), folder.path() / "one.safetensors");
  expect_error(ErrorCode::invalid_path, {"one.safetensors", "out of the model's folder"}, [&] { folder.open(); });
}

TEST(SafetensorsIndex, EveryFileMustBeThere) {
  const ShardedModel folder;
  folder.remove("two.safetensors");
  expect_error(ErrorCode::invalid_weights, {std::string(kIndex) + ": weight_map.", "\"two.safetensors\" is missing"},
               [&] { folder.open(); });
}

TEST(SafetensorsIndex, AFileHoldsWhatTheIndexSays) {
  const ShardedModel folder;
  folder.replace(kIndex, "one.safetensors", "two.safetensors");
  expect_error(ErrorCode::invalid_weights, {"one.safetensors: tensor", "stands in \"two.safetensors\" too"},
               [&] { folder.open(); });
  folder.write("one.safetensors", safetensors_of({folder.tensors().begin() + 1, folder.tensors().begin() + 7}));
  expect_error(ErrorCode::invalid_weights,
               {std::string(kIndex) + ": weight_map." + folder.tensors()[0].name, "\"two.safetensors\" does not hold"},
               [&] { folder.open(); });
}

TEST(SafetensorsIndex, ATensorStandsInOneFile) {
  const ShardedModel folder;
  folder.write("two.safetensors", safetensors_of(folder.tensors()));
  expect_error(ErrorCode::invalid_weights,
               {"two.safetensors: tensor", folder.tensors()[0].name, "stands in \"one.safetensors\" too"},
               [&] { folder.open(); });
}

TEST(SafetensorsIndex, AFileHoldsNothingElse) {
  const ShardedModel folder;
  std::string index = folder.read(kIndex);
  const std::string entry = "\"" + folder.tensors()[0].name + R"(":"one.safetensors",)";
  folder.write(kIndex, index.erase(index.find(entry), entry.size()));
  expect_error(ErrorCode::invalid_weights,
               {"one.safetensors: tensor", folder.tensors()[0].name, "is not in the weight_map of"},
               [&] { folder.open(); });
}

TEST(SafetensorsIndex, IsNotTrusted) {
  const ShardedModel folder;
  const std::string name = kIndex;
  folder.write(name, R"({"metadata":{}})");
  expect_error(ErrorCode::invalid_weights, {name + ": weight_map: is missing"}, [&] { folder.open(); });
  folder.write(name, R"({"weight_map":["a"]})");
  expect_error(ErrorCode::invalid_weights, {name + ": weight_map: an array is not an object"}, [&] { folder.open(); });
  folder.write(name, R"({"weight_map":{"a":1}})");
  expect_error(ErrorCode::invalid_weights, {name + ": weight_map.a: 1 is not a string"}, [&] { folder.open(); });
  folder.write(name, R"({"weight_map":{"a":"one.safetensors","a":"two.safetensors"}})");
  expect_error(ErrorCode::invalid_weights, {name + ": weight_map.a: stands twice"}, [&] { folder.open(); });
  folder.write(name, "{");
  expect_error(ErrorCode::invalid_weights, {name}, [&] { folder.open(); });
}

}  // namespace
}  // namespace cortex
