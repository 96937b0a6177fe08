#include "model/huggingface.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/arch/registry.h"
#include "model/json_file.h"
#include "model/model_folder.h"
#include "model/safetensors.h"
#include "model/sentence_transformers.h"
#include "model/tokenizer_files.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 1 << 20;
constexpr std::uint64_t kMaxIndexBytes = 64 << 20;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

// The index says which of several files holds a tensor: each file is opened once, and must hold what the index says.
std::vector<TensorView> read_shards(const ModelFolder& folder, const std::string& index_text) {
  const Fields index = parse_json_object(index_text, kIndexFile, ErrorCode::invalid_weights);
  const Fields* weight_map = index.find_object("weight_map");
  if (!weight_map) index.fail("weight_map", "is missing");
  std::map<std::string, std::set<std::string>> names_by_file;
  for (const auto& [name, value] : weight_map->entries()) {
    const std::string& file = weight_map->text(name);
    if (file.find('/') != std::string::npos || file == "..") {
      weight_map->fail(name, quote(file) + " is not the name of a file beside the index", ErrorCode::invalid_path);
    }
    if (!folder.has(file)) weight_map->fail(name, quote(file) + " is missing");
    names_by_file[file].insert(name);
  }
  std::vector<TensorView> tensors;
  for (auto& [file, names] : names_by_file) {
    for (TensorView& tensor : read_safetensors(folder.open(file), file)) {
      names.erase(tensor.name);
      tensors.push_back(std::move(tensor));
    }
    if (!names.empty()) weight_map->fail(*names.begin(), quote(file) + " does not hold this tensor");
  }
  return tensors;
}

TensorMap read_tensors(const ModelFolder& folder, const std::filesystem::path& directory) {
  if (folder.has(kSingleFile)) return {kSingleFile, read_safetensors(folder.open(kSingleFile), kSingleFile)};
  const auto index = folder.find_text(kIndexFile, kMaxIndexBytes, ErrorCode::invalid_weights);
  if (index) return {kIndexFile, read_shards(folder, *index)};
  if (const auto pickle = folder.find_pickle()) {
    throw Error(ErrorCode::invalid_path, fmt::format("{}: pickle weights are never loaded; {} is needed",
                                                     (directory / *pickle).string(), kSingleFile));
  }
  throw Error(ErrorCode::invalid_path,
              fmt::format("{}: has neither {} nor {}", directory.string(), kSingleFile, kIndexFile));
}

Fields read_config(const ModelFolder& folder, const std::filesystem::path& directory) {
  const auto text = folder.find_text("config.json", kMaxConfigBytes, ErrorCode::invalid_config);
  if (!text) throw Error(ErrorCode::invalid_path, directory.string() + ": has no config.json");
  Fields config = parse_json_object(*text, "config.json", ErrorCode::invalid_config);
  for (const char* field : {"quantization", "quantization_config"}) {
    if (config.contains(field))
      config.fail(field, "quantised safetensors are not supported; float weights or GGUF are");
  }
  return config;
}

}  // namespace

Model open_huggingface(const FileSystem& files, const std::filesystem::path& directory) {
  const ModelFolder folder(files, directory);
  const Fields config = read_config(folder, directory);
  const Architecture& architecture = architecture_of(config, "model_type");
  TensorMap tensors = read_tensors(folder, directory);

  Model model;
  model.path = directory;
  model.architecture = architecture.name;
  model.weight_bytes = tensors.bytes();
  model.network = architecture.from_huggingface(config, &tensors);
  tensors.refuse_rest();
  if (auto* encoder = std::get_if<EncoderModel>(&model.network)) {
    read_sentence_transformers(folder, &encoder->spec, &model.embedding);
    model.kind = ModelKind::embed;
  }
  read_tokenizer_files(folder, config, &model);
  return model;
}

}  // namespace cortex
