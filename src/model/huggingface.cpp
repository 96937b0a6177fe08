#include "model/huggingface.h"

#include <fmt/core.h>

#include <string>

#include "base/error.h"
#include "model/arch/encoder_parts.h"
#include "model/arch/registry.h"
#include "model/json_file.h"
#include "model/model_folder.h"
#include "model/quantisation.h"
#include "model/safetensors.h"
#include "model/safetensors_index.h"
#include "model/sentence_transformers.h"
#include "model/tokenizer_files.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 1 << 20;
constexpr std::uint64_t kMaxIndexBytes = 64 << 20;
constexpr const char* kSingleFile = "model.safetensors";

TensorMap read_tensors(const ModelFolder& folder, const std::filesystem::path& directory,
                       const Quantisation& quantisation) {
  if (folder.has(kSingleFile)) {
    return {kSingleFile, read_safetensors(folder.open(kSingleFile), kSingleFile), quantisation};
  }
  const auto index = folder.find_text(kSafetensorsIndexFile, kMaxIndexBytes, ErrorCode::invalid_weights);
  if (index) return {kSafetensorsIndexFile, read_indexed_safetensors(folder, *index), quantisation};
  if (const auto pickle = folder.find_pickle()) {
    throw Error(ErrorCode::invalid_path, fmt::format("{}: pickle weights are never loaded; {} is needed",
                                                     (directory / *pickle).string(), kSingleFile));
  }
  throw Error(ErrorCode::invalid_path,
              fmt::format("{}: has neither {} nor {}", directory.string(), kSingleFile, kSafetensorsIndexFile));
}

Fields read_config(const ModelFolder& folder, const std::filesystem::path& directory) {
  const auto text = folder.find_text("config.json", kMaxConfigBytes, ErrorCode::invalid_config);
  if (!text) throw Error(ErrorCode::invalid_path, directory.string() + ": has no config.json");
  Fields config = parse_json_object(*text, "config.json", ErrorCode::invalid_config);
  for (const char* field : {"vision_config", "audio_config"}) {
    if (config.contains(field)) {
      config.fail(field, "models of more than text are not supported; their text-only kin are, such as gemma3_text");
    }
  }
  return config;
}

// A decoder that was saved without its head can't chat.
bool is_headless(const Fields& config, const DecoderModel& model) {
  if (const auto* names = config.find_array("architectures")) {
    for (const Value& name : *names) {
      const auto* text = name.as<std::string>();
      if (text && text->ends_with("Model")) return true;
    }
  }
  return !model.weights.embedding.tensor.name.starts_with("model.");
}

ModelKind kind_of(const Fields& config, const Network& network) {
  if (const auto* decoder = std::get_if<DecoderModel>(&network)) {
    return is_headless(config, *decoder) ? ModelKind::embed : ModelKind::chat;
  }
  const auto& head = std::get<EncoderModel>(network).spec.head;
  if (!head) return ModelKind::embed;
  return head->labels == 1 ? ModelKind::rerank : ModelKind::classify;
}

std::string format_of(const Quantisation& quantisation) {
  return quantisation.standard ? fmt::format("MLX {}-bit", quantisation.standard->bits) : "safetensors";
}

}  // namespace

Model open_huggingface(const FileSystem& files, const std::filesystem::path& directory) {
  const ModelFolder folder(files, directory);
  const Fields config = read_config(folder, directory);
  const Architecture& architecture = huggingface_architecture(config);
  const Quantisation quantisation = read_quantisation(config);
  TensorMap tensors = read_tensors(folder, directory, quantisation);

  Model model;
  model.path = directory;
  model.architecture = architecture.model_type;
  model.format = format_of(quantisation);
  model.weight_bytes = tensors.bytes();
  model.network = architecture.from_huggingface(config, &tensors);
  tensors.refuse_rest();
  model.kind = kind_of(config, model.network);
  if (model.kind == ModelKind::rerank || model.kind == ModelKind::classify) model.labels = read_labels(config);
  read_sentence_transformers(folder, &model);
  read_tokenizer_files(folder, config, &model);
  return model;
}

}  // namespace cortex
