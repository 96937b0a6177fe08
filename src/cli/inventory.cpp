#include "cli/inventory.h"

#include <fmt/core.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "cli/characters.h"
#include "cli/packaged_models.h"
#include "model/model.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const FileSystem& files, const fs::path& folder) {
  try {
    return files.list(folder);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path,
                fmt::format("{}: can't be listed: {}", folder.string(), error.code().message()));
  }
}

InventoryEntry entry_at(const fs::path& path, const std::string& source) {
  InventoryEntry entry;
  entry.name = path.string();
  entry.source = source;
  entry.path = path;
  return entry;
}

// What is at a path: itself where it is a file or a folder of safetensors, else each .gguf in it; as entries that have
// only their path, and what keeps them from being looked at.
std::vector<InventoryEntry> entries_at(const FileSystem& files, const fs::path& path, const std::string& source) {
  InventoryEntry itself = entry_at(path, source);
  if (!files.is_directory(path)) {
    const std::string name = path.filename().string();
    const std::optional<int> part = gguf_part(name);
    if (part) itself.problem = fmt::format("is {}", kGgufPartsAdvice);
    return is_gguf_model(name) || part == 1 ? std::vector{itself} : std::vector<InventoryEntry>{};
  }
  try {
    const std::vector<std::string> choices = gguf_files(files, path);
    if (choices.size() < 2) {
      itself.path = model_in_folder(files, path);
      itself.name = itself.path.string();
      return itself.path != path || files.exists(path / "config.json") ? std::vector{itself}
                                                                       : std::vector<InventoryEntry>{};
    }
    std::vector<InventoryEntry> out;
    for (const auto& file : choices) out.push_back(entry_at(path / file, source));
    return out;
  } catch (const std::exception& error) {
    itself.problem = in_one_line(error.what());
    return {itself};
  }
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
    for (InventoryEntry& entry : entries_at(files, folder / name, source)) {
      const std::string packaged = source == "packaged" ? packaged_name_of(entry.path) : "";
      if (!packaged.empty()) entry.name = packaged;
      out->push_back(std::move(entry));
    }
  }
}

void add_packaged(const FileSystem& files, const fs::path& folder, std::vector<InventoryEntry>* out) {
  if (!files.is_directory(folder)) return;
  try {
    add_folder(files, folder, "packaged", out);
  } catch (const Error& error) {
    out->push_back(entry_at(folder, "packaged"));
    out->back().problem = in_one_line(error.message());
  }
}

void add_hub(const FileSystem& files, const fs::path& root, std::vector<InventoryEntry>* out) {
  for (const HubCache::Snapshot& snapshot : HubCache(files, root).snapshots()) {
    const bool is_main = std::find(snapshot.refs.begin(), snapshot.refs.end(), "main") != snapshot.refs.end();
    const std::string revision = is_main ? "main" : snapshot.refs.empty() ? snapshot.commit : snapshot.refs.front();
    std::vector<InventoryEntry> entries = entries_at(files, snapshot.path, "hub");
    if (entries.empty()) entries.push_back(entry_at(snapshot.path, "hub"));
    for (InventoryEntry& entry : entries) {
      const std::string file = entries.size() > 1 ? entry.path.lexically_relative(snapshot.path).string() : "";
      entry.name = HubName{snapshot.repository, revision, file}.text();
      out->push_back(std::move(entry));
    }
  }
}

}  // namespace

void examine(const FileSystem& files, InventoryEntry* entry) {
  if (!entry->problem.empty()) return;
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
  add_packaged(files, places.packaged, &out);
  for (const auto& folder : folders) add_folder(files, folder, "folder", &out);
  add_hub(files, places.hub, &out);
  for (InventoryEntry& entry : out) examine(files, &entry);
  return out;
}

}  // namespace cortex
