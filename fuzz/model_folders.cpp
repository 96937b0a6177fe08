#include "model_folders.h"

#include <filesystem>
#include <stdexcept>

#include "model/json_file.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = 64 << 20;

FolderModel read_folder(const fs::path& folder) {
  FolderModel model;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = entry.path().lexically_relative(folder).string();
    std::string bytes = real_file_system().read_text(entry.path(), kMostBytes);
    if (name == "config.json") {
      model.model_type = parse_json_object(bytes, name, ErrorCode::invalid_config).text("model_type");
    }
    model.files.emplace_back(name, std::make_shared<const std::string>(std::move(bytes)));
  }
  return model;
}

std::vector<FolderModel> read_all() {
  std::vector<FolderModel> models;
  for (const auto& entry : fs::directory_iterator(fs::path(CORTEX_TEST_DATA) / "models")) {
    if (fs::exists(entry.path() / "config.json")) models.push_back(read_folder(entry.path()));
  }
  if (models.empty()) throw std::runtime_error(CORTEX_TEST_DATA "/models: has no models");
  return models;
}

}  // namespace

const std::vector<FolderModel>& folder_models() {
  static const std::vector<FolderModel> models = read_all();
  return models;
}

}  // namespace cortex
