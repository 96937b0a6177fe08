#include "model/model.h"

#include "base/error.h"
#include "model/gguf_model.h"
#include "model/huggingface.h"
#include "model/model_folder.h"

namespace cortex {

int Model::context_tokens() const {
  return std::visit([](const auto& network) { return network.spec.context_tokens; }, network);
}

int Model::vocabulary() const {
  return std::visit([](const auto& network) { return network.spec.vocabulary; }, network);
}

Model open_model(const FileSystem& files, const std::filesystem::path& path) {
  if (files.is_directory(path)) return open_huggingface(files, path);
  if (path.extension() == ".gguf") return open_gguf(files, path);
  open_model_file(files, path);  // what is absent or can't be read is told first
  if (is_pickle(path)) throw Error(ErrorCode::invalid_path, path.string() + ": pickle weights are never loaded");
  throw Error(ErrorCode::invalid_path, path.string() + ": a model is a directory or a .gguf file");
}

}  // namespace cortex
