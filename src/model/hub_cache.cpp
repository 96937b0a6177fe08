#include "model/hub_cache.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <iterator>
#include <set>
#include <system_error>

#include "base/error.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestRepository = 96;
constexpr std::size_t kLongestRevision = 200;
constexpr std::size_t kLongestPath = 1024;
constexpr std::uint64_t kLargestRefBytes = 4096;
constexpr int kDeepestFolder = 3;
constexpr std::string_view kEntryPrefix = "models--";

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
}

// Of an organisation or a model: "--" separates the two in a cache's folder.
bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_name_character) &&
         std::isalnum(static_cast<unsigned char>(text.front())) != 0 && text.find("..") == std::string_view::npos &&
         text.find("--") == std::string_view::npos;
}

bool is_repository(std::string_view text) {
  const auto slash = text.find('/');
  return text.size() <= kLongestRepository && slash != std::string_view::npos && is_name(text.substr(0, slash)) &&
         is_name(text.substr(slash + 1));
}

bool is_revision(std::string_view text) {
  const auto fits = [](char c) { return is_name_character(c) || c == '/' || c == '+'; };
  return text.size() <= kLongestRevision && is_repository_path(text) && std::all_of(text.begin(), text.end(), fits);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool is_gguf(std::string_view name) { return lower(name).ends_with(".gguf"); }

// A part of a model that is given beside it, not a model of its own.
bool is_projector(std::string_view path) { return lower(path.substr(path.rfind('/') + 1)).starts_with("mmproj"); }

std::vector<std::string> names_of(const FileSystem& files, const fs::path& folder) {
  try {
    return files.list(folder);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path,
                fmt::format("{}: can't be listed: {}", folder.string(), error.code().message()));
  }
}

fs::path canonical_of(const FileSystem& files, const fs::path& folder) {
  try {
    return files.canonical(folder);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path,
                fmt::format("{}: can't be listed: {}", folder.string(), error.code().message()));
  }
}

// All .gguf files below a folder, each folder once whatever links lead to it.
class GgufSearch {
 public:
  explicit GgufSearch(const FileSystem& files) : files_(files) {}

  std::vector<std::string> run(const fs::path& folder) {
    collect(folder, "", kDeepestFolder);
    std::sort(found_.begin(), found_.end());
    return std::move(found_);
  }

 private:
  void collect(const fs::path& folder, const std::string& prefix, int depth) {
    if (!seen_.insert(canonical_of(files_, folder)).second) return;
    for (const std::string& name : names_of(files_, folder)) {
      const fs::path path = folder / name;
      if (is_gguf(name) && files_.is_file(path)) found_.push_back(prefix + name);
      if (depth > 0 && !name.starts_with('.') && files_.is_directory(path))
        collect(path, prefix + name + "/", depth - 1);
    }
  }

  const FileSystem& files_;
  std::set<fs::path> seen_;
  std::vector<std::string> found_;
};

// "x" of "x-00002-of-00003", and which part of how many that is.
struct PartName {
  std::string_view stem;
  int part = 0;
  int parts = 0;
};

std::optional<PartName> parse_part(std::string_view stem) {
  constexpr std::string_view kPattern = "-00002-of-00003";
  if (stem.size() <= kPattern.size()) return std::nullopt;
  const std::string_view end = stem.substr(stem.size() - kPattern.size());
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const bool fits = std::equal(end.begin(), end.end(), kPattern.begin(), [&](char found, char pattern) {
    return is_digit(pattern) ? is_digit(found) : found == pattern;
  });
  if (!fits) return std::nullopt;
  const auto number = [&](std::size_t at) { return std::atoi(std::string(end.substr(at, 5)).c_str()); };
  return PartName{stem.substr(0, stem.size() - kPattern.size()), number(1), number(10)};
}

std::string_view without_suffix(std::string_view file) { return file.substr(0, file.rfind('.')); }

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

bool has_weights_beside_gguf(const FileSystem& files, const fs::path& folder) {
  if (!files.exists(folder / "config.json")) return false;
  const std::vector<std::string> names = names_of(files, folder);
  return std::any_of(names.begin(), names.end(), [](const auto& name) { return name.ends_with(".safetensors"); });
}

const char* value_of(const Environment& environment, const char* name) {
  const char* value = environment(name);
  return value && *value ? value : nullptr;
}

}  // namespace

std::string HubName::text() const {
  return repository + (revision == "main" ? "" : "@" + revision) + (file.empty() ? "" : ":" + file);
}

std::optional<HubName> parse_hub_name(std::string_view text) {
  HubName name;
  const auto colon = text.find(':');
  if (colon != std::string_view::npos) {
    name.file = text.substr(colon + 1);
    if (!is_repository_path(name.file)) return std::nullopt;
    text = text.substr(0, colon);
  }
  const auto at = text.find('@');
  if (at != std::string_view::npos) {
    name.revision = text.substr(at + 1);
    if (!is_revision(name.revision)) return std::nullopt;
    text = text.substr(0, at);
  }
  if (!is_repository(text)) return std::nullopt;
  name.repository = text;
  return name;
}

bool is_repository_path(std::string_view path) {
  if (path.empty() || path.size() > kLongestPath) return false;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return std::none_of(path.begin(), path.end(),
                      [](char c) { return c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

bool is_commit(std::string_view text) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 40 && std::all_of(text.begin(), text.end(), is_digit);
}

fs::path hub_home(const Environment& environment) {
  if (const char* home = value_of(environment, "HF_HOME")) return home;
  if (const char* cache = value_of(environment, "XDG_CACHE_HOME")) return fs::path(cache) / "huggingface";
  const char* home = value_of(environment, "HOME");
  return home ? fs::path(home) / ".cache" / "huggingface" : fs::path();
}

fs::path hub_cache_root(const Environment& environment) {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const char* root = value_of(environment, name)) return root;
  }
  const fs::path home = hub_home(environment);
  return home.empty() ? home : home / "hub";
}

bool hub_is_offline(const Environment& environment) {
  const char* value = value_of(environment, "HF_HUB_OFFLINE");
  if (!value) return false;
  const std::string text = lower(value);
  return text == "1" || text == "true" || text == "yes" || text == "on";
}

std::optional<int> gguf_part(std::string_view file) {
  if (!is_gguf(file)) return std::nullopt;
  const auto name = parse_part(lower(without_suffix(file)));
  return name && name->parts > 1 ? std::optional(name->part) : std::nullopt;
}

bool is_gguf_model(std::string_view file) { return is_gguf(file) && !is_projector(file) && !gguf_part(file); }

std::vector<std::string> gguf_files(const FileSystem& files, const fs::path& folder) {
  std::vector<std::string> found = GgufSearch(files).run(folder);
  std::erase_if(found, [](const auto& file) { return !is_gguf_model(file); });
  return found;
}

bool has_quantisation(std::string_view file, std::string_view quantisation) {
  if (!is_gguf(file)) return false;
  const std::string name = lower(without_suffix(file));
  const auto part = parse_part(name);
  const std::string_view stem = part ? part->stem : name;
  const std::string end = lower(quantisation);
  if (end.empty() || stem.size() <= end.size() || !stem.ends_with(end)) return false;
  const char before = stem[stem.size() - end.size() - 1];
  return before == '-' || before == '.' || before == '_' || before == '/';
}

fs::path model_in_folder(const FileSystem& files, const fs::path& folder) {
  if (has_weights_beside_gguf(files, folder)) return folder;
  std::vector<std::string> choices = GgufSearch(files).run(folder);
  const bool parts = std::any_of(choices.begin(), choices.end(), gguf_part);
  std::erase_if(choices, [](const auto& file) { return !is_gguf_model(file); });
  if (choices.size() == 1) return folder / choices.front();
  if (choices.empty() && parts) {
    throw Error(ErrorCode::invalid_path, fmt::format("{}: holds a model {}", folder.string(), kGgufPartsAdvice));
  }
  if (choices.empty()) return folder;
  throw Error(ErrorCode::invalid_path, fmt::format("{}: holds {} models; name one of them: {}", folder.string(),
                                                   choices.size(), listed(choices)));
}

fs::path HubCache::folder_of(const std::string& repository) const {
  const auto slash = repository.find('/');
  CORTEX_CHECK(slash != std::string::npos);
  return root_ / (std::string(kEntryPrefix) + repository.substr(0, slash) + "--" + repository.substr(slash + 1));
}

std::optional<std::string> HubCache::commit_of(const HubName& name) const {
  if (is_commit(name.revision)) return name.revision;
  const fs::path ref = folder_of(name.repository) / "refs" / name.revision;
  if (!files_.is_file(ref)) return std::nullopt;
  try {
    std::string text = files_.read_text(ref, kLargestRefBytes);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
    // What a file of the cache says becomes part of a path.
    return is_commit(text) ? std::optional(text) : std::nullopt;
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path, error.what());
  }
}

std::optional<fs::path> HubCache::find_snapshot(const HubName& name) const {
  if (root_.empty()) return std::nullopt;
  const auto commit = commit_of(name);
  if (!commit) return std::nullopt;
  fs::path folder = folder_of(name.repository) / "snapshots" / *commit;
  return files_.is_directory(folder) ? std::optional(std::move(folder)) : std::nullopt;
}

std::optional<fs::path> HubCache::find_model(const HubName& name) const {
  const auto snapshot = find_snapshot(name);
  if (!snapshot) return std::nullopt;
  if (name.file.empty()) return model_in_folder(files_, *snapshot);
  if (is_gguf(name.file) && files_.is_file(*snapshot / name.file)) return *snapshot / name.file;
  std::vector<std::string> found;
  const std::vector<std::string> all = GgufSearch(files_).run(*snapshot);
  std::vector<std::string> choices;
  std::copy_if(all.begin(), all.end(), std::back_inserter(choices), is_gguf_model);
  std::copy_if(choices.begin(), choices.end(), std::back_inserter(found),
               [&](const auto& file) { return has_quantisation(file, name.file); });
  if (found.size() == 1) return *snapshot / found.front();
  const bool in_parts = std::any_of(
      all.begin(), all.end(), [&](const auto& file) { return gguf_part(file) && has_quantisation(file, name.file); });
  if (found.empty() && in_parts) {
    throw Error(ErrorCode::invalid_path, fmt::format("{}: is {}", name.text(), kGgufPartsAdvice));
  }
  const std::string here = choices.empty() ? "no .gguf file" : listed(found.empty() ? choices : found);
  throw Error(ErrorCode::invalid_path,
              fmt::format("{}: \"{}\" is {} there; there is {}; `cortex pull {}` fetches it", name.text(), name.file,
                          found.empty() ? "not" : "more than once", here, name.text()));
}

std::vector<std::string> HubCache::names_in(const fs::path& folder) const {
  try {
    if (files_.is_directory(folder)) return files_.list(folder);
  } catch (const std::system_error&) {
    return {};  // what can't be listed has nothing to offer
  }
  return {};
}

std::vector<HubCache::Snapshot> HubCache::snapshots() const {
  std::vector<Snapshot> out;
  if (root_.empty()) return out;
  for (const std::string& entry : names_in(root_)) {
    if (!entry.starts_with(kEntryPrefix)) continue;
    std::string repository = entry.substr(kEntryPrefix.size());
    const auto separator = repository.find("--");
    if (separator == std::string::npos) continue;
    repository.replace(separator, 2, "/");
    if (!is_repository(repository)) continue;
    for (const std::string& commit : names_in(root_ / entry / "snapshots")) {
      if (!is_commit(commit)) continue;
      Snapshot snapshot{repository, commit, {}, root_ / entry / "snapshots" / commit};
      for (const std::string& ref : names_in(root_ / entry / "refs")) {
        const HubName name{repository, ref, {}};
        if (commit_of(name) == commit) snapshot.refs.push_back(ref);
      }
      out.push_back(std::move(snapshot));
    }
  }
  return out;
}

}  // namespace cortex
