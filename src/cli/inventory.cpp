#include "cli/inventory.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "cli/packaged_models.h"
#include "model/model.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

std::string in_one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::vector<std::string> names_in(const FileSystem& files, const fs::path& folder) {
  try {
    return files.list(folder);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path, error.what());
  }
}

// The models at a path: itself where it is a file or a folder of safetensors, else each .gguf in it.
std::vector<fs::path> models_at(const FileSystem& files, const fs::path& path) {
  if (!files.is_directory(path)) return path.extension() == ".gguf" ? std::vector{path} : std::vector<fs::path>{};
  const std::vector<std::string> choices = gguf_files(files, path);
  if (choices.size() < 2) {
    const fs::path model = model_in_folder(files, path);
    return model != path || files.exists(path / "config.json") ? std::vector{model} : std::vector<fs::path>{};
  }
  std::vector<fs::path> out;
  for (const auto& file : choices) out.push_back(path / file);
  return out;
}

std::string packaged_name_of(const fs::path& path) {
  for (const PackagedModel& model : packaged_models()) {
    if (path.filename() == model.file) return std::string(model.name);
  }
  return {};
}

void add_folder(const FileSystem& files, const fs::path& folder, const std::string& source,
                std::vector<InventoryEntry>* out) {
  for (const std::string& name : names_in(files, folder)) {
    if (name.starts_with('.')) continue;
    for (const fs::path& path : models_at(files, folder / name)) {
      InventoryEntry entry;
      entry.source = source;
      entry.path = path;
      entry.name = source == "packaged" ? packaged_name_of(path) : "";
      if (entry.name.empty()) entry.name = path.string();
      out->push_back(std::move(entry));
    }
  }
}

void add_hub(const FileSystem& files, const fs::path& root, std::vector<InventoryEntry>* out) {
  for (const HubCache::Snapshot& snapshot : HubCache(files, root).snapshots()) {
    const bool is_main = std::find(snapshot.refs.begin(), snapshot.refs.end(), "main") != snapshot.refs.end();
    const std::string revision = is_main ? "main" : snapshot.refs.empty() ? snapshot.commit : snapshot.refs.front();
    std::vector<fs::path> paths = models_at(files, snapshot.path);
    const bool several = paths.size() > 1;
    if (paths.empty()) paths.push_back(snapshot.path);
    for (const fs::path& path : paths) {
      InventoryEntry entry;
      entry.source = "hub";
      entry.path = path;
      entry.name =
          HubName{snapshot.repository, revision, several ? path.lexically_relative(snapshot.path).string() : ""}.text();
      out->push_back(std::move(entry));
    }
  }
}

}  // namespace

void examine(const FileSystem& files, InventoryEntry* entry) {
  try {
    const Model model = open_model(files, entry->path);
    if (!entry->kind) entry->kind = model.kind;
    entry->architecture = model.architecture;
    entry->format = model.format;
    entry->weight_bytes = model.weight_bytes;
    entry->context_tokens = model.context_tokens();
  } catch (const std::exception& error) {
    entry->problem = in_one_line(error.what());
  }
}

InventoryEntry examine_option(const FileSystem& files, const ModelPlaces& places, const std::string& option) {
  InventoryEntry entry;
  entry.name = option;
  entry.source = "configured";
  try {
    const ModelConfig config = parse_model(files, places, option);
    entry.name = config.name;
    entry.path = config.path;
    entry.kind = config.kind;
  } catch (const Error& error) {
    entry.problem = in_one_line(error.message());
    return entry;
  }
  examine(files, &entry);
  return entry;
}

std::vector<InventoryEntry> take_inventory(const FileSystem& files, const ModelPlaces& places,
                                           const std::vector<std::string>& folders) {
  std::vector<InventoryEntry> out;
  if (files.is_directory(places.packaged)) add_folder(files, places.packaged, "packaged", &out);
  for (const auto& folder : folders) add_folder(files, folder, "folder", &out);
  add_hub(files, places.hub, &out);
  for (InventoryEntry& entry : out) examine(files, &entry);
  return out;
}

}  // namespace cortex
