#include "cli/model_path.h"

#include <fmt/core.h>

#include "base/error.h"
#include "cli/packaged_models.h"
#include "model/model_kind.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kKind = ",kind=";

// "acme--tiny" of "models--acme--tiny/snapshots/COMMIT/...": what `cortex pull` prints is named after its repository.
std::string repository_name_in(const fs::path& path) {
  constexpr std::string_view kEntry = "models--";
  for (const auto& part : path) {
    const std::string name = part.string();
    if (name.starts_with(kEntry) && name.find("--", kEntry.size()) != std::string::npos) {
      return name.substr(name.find("--", kEntry.size()) + 2);
    }
  }
  return {};
}

ModelKind parse_kind(const std::string& option, const std::string& text) {
  if (const auto kind = model_kind_of(text)) return *kind;
  throw Error(ErrorCode::invalid_option,
              fmt::format("--model {}: unknown kind \"{}\"; one of chat, embed, rerank, classify", option, text));
}

}  // namespace

ModelPlaces model_places(const Environment& environment) {
  return {hub_cache_root(environment), packaged_models_folder(environment)};
}

fs::path find_model(const FileSystem& files, const ModelPlaces& places, const std::string& text) {
  if (files.is_directory(text)) return model_in_folder(files, text);
  if (files.exists(text)) return text;
  if (const PackagedModel* packaged = find_packaged_model(text)) {
    fs::path path = places.packaged / packaged->file;
    if (!places.packaged.empty() && files.exists(path)) return path;
    throw Error(ErrorCode::invalid_path, fmt::format("{0}: is not here yet; `cortex pull {0}` fetches it", text));
  }
  const auto name = parse_hub_name(text);
  if (!name) {
    throw Error(ErrorCode::invalid_path,
                fmt::format("{}: no such file or folder, nor the name of a model (org/name, as on the hub); `cortex "
                            "models` lists what is here",
                            text));
  }
  const HubCache cache(files, places.hub);
  if (auto path = cache.find_model(*name)) return *std::move(path);
  throw Error(ErrorCode::invalid_path,
              fmt::format("{0}: no such file or folder, and the hub's cache ({1}) does not hold it; `cortex pull {0}` "
                          "fetches it",
                          text, places.hub.string()));
}

std::string model_name_of(const std::string& text) {
  const fs::path path = fs::path(text).lexically_normal();
  if (std::string name = repository_name_in(path); !name.empty()) return name;
  const fs::path last = path.has_filename() ? path : path.parent_path();
  if (last.extension() == ".gguf" && text.find(':') == std::string::npos) return last.stem().string();
  const auto name = parse_hub_name(text);
  if (name && (name->revision != "main" || !name->file.empty())) {
    return name->repository.substr(name->repository.find('/') + 1);
  }
  return last.filename().string();
}

ModelConfig parse_model(const FileSystem& files, const ModelPlaces& places, const std::string& text) {
  ModelConfig config;
  std::string rest = text;
  if (const auto kind = rest.rfind(kKind); kind != std::string::npos) {
    config.kind = parse_kind(text, rest.substr(kind + kKind.size()));
    rest.resize(kind);
  }
  const auto equals = rest.find('=');
  std::string path = equals == std::string::npos ? rest : rest.substr(equals + 1);
  config.name = equals == std::string::npos ? model_name_of(path) : rest.substr(0, equals);
  if (config.name.empty() || path.empty()) {
    throw Error(ErrorCode::invalid_option,
                fmt::format("--model {}: NAME=PATH is wanted, or PATH alone; after it ,kind=KIND is possible", text));
  }
  config.path = find_model(files, places, path).string();
  return config;
}

}  // namespace cortex
