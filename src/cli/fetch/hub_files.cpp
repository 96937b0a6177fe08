#include "cli/fetch/hub_files.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

#include "base/error.h"
#include "cli/fetch/progress.h"
#include "model/model_folder.h"

namespace cortex {
namespace {

constexpr std::size_t kMostListed = 40;

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }
bool is_safetensors(const HubFile& file) { return file.path.ends_with(".safetensors"); }

// "model-00001-of-00003.gguf": one part of a model.
bool is_part(std::string_view path) {
  constexpr std::string_view kPattern = "-00001-of-00003.gguf";
  if (path.size() < kPattern.size()) return false;
  const std::string_view end = path.substr(path.size() - kPattern.size());
  return std::equal(end.begin(), end.end(), kPattern.begin(), [](char found, char pattern) {
    return std::isdigit(static_cast<unsigned char>(pattern)) != 0 ? std::isdigit(static_cast<unsigned char>(found)) != 0
                                                                  : found == pattern;
  });
}

bool is_gguf_model(const HubFile& file) {
  return file.path.ends_with(".gguf") && !base_name(file.path).starts_with("mmproj") && !is_part(file.path);
}

// A module of sentence-transformers has a folder of its own: "1_Pooling".
bool is_beside_the_model(std::string_view path) {
  const auto slash = path.find('/');
  if (slash == std::string_view::npos) return true;
  const std::string_view folder = path.substr(0, slash);
  if (path.find('/', slash + 1) != std::string_view::npos) return false;
  if (folder == "additional_chat_templates") return true;
  const auto underscore = folder.find('_');
  return underscore != std::string_view::npos && underscore > 0 &&
         std::all_of(folder.begin(), folder.begin() + static_cast<std::ptrdiff_t>(underscore),
                     [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; });
}

bool is_needed(const HubFile& file) {
  // The same weights once more, as their makers trained them.
  if (base_name(file.path).starts_with("consolidated")) return false;
  const bool known = is_safetensors(file) || file.path.ends_with(".json") || file.path.ends_with(".jinja");
  return known && is_beside_the_model(file.path);
}

std::string listed(const std::vector<HubFile>& files) {
  std::string out;
  for (std::size_t i = 0; i < std::min(files.size(), kMostListed); ++i) {
    out += fmt::format("\n  :{}  ({})", files[i].path, format_bytes(files[i].size_bytes));
  }
  if (files.size() > kMostListed) out += fmt::format("\n  and {} more", files.size() - kMostListed);
  return out;
}

template <typename Predicate>
std::vector<HubFile> those(const std::vector<HubFile>& files, Predicate predicate) {
  std::vector<HubFile> out;
  std::copy_if(files.begin(), files.end(), std::back_inserter(out), predicate);
  return out;
}

std::vector<HubFile> named(const std::vector<HubFile>& files, const HubName& name) {
  if (is_pickle(name.file)) {
    throw Error(ErrorCode::invalid_value, name.text() + ": pickle weights are never loaded, and so not fetched");
  }
  std::vector<HubFile> found = those(files, [&](const auto& file) { return file.path == name.file; });
  const std::vector<HubFile> choices = those(files, is_gguf_model);
  if (found.empty()) {
    found = those(choices, [&](const auto& file) { return has_quantisation(file.path, name.file); });
  }
  if (found.size() == 1) return found;
  throw Error(
      ErrorCode::invalid_value,
      fmt::format("{}: \"{}\" is {} there; {}{}", name.text(), name.file, found.empty() ? "not" : "more than once",
                  choices.empty() ? "it has no .gguf file that could be loaded" : "there is",
                  listed(found.empty() ? choices : found)));
}

}  // namespace

std::vector<HubFile> choose_files(const std::vector<HubFile>& files, const HubName& name) {
  if (!name.file.empty()) return named(files, name);
  std::vector<HubFile> needed = those(files, is_needed);
  const bool has_root_weights = std::any_of(needed.begin(), needed.end(), [](const auto& file) {
    return is_safetensors(file) && file.path.find('/') == std::string::npos;
  });
  if (has_root_weights) return needed;
  std::vector<HubFile> choices = those(files, is_gguf_model);
  if (choices.size() == 1) return choices;
  if (!choices.empty()) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("{}: has {} models; name a file or its quantisation after a colon:{}", name.text(),
                            choices.size(), listed(choices)));
  }
  const bool pickled = std::any_of(files.begin(), files.end(), [](const auto& file) { return is_pickle(file.path); });
  throw Error(ErrorCode::model_not_found,
              fmt::format("{}: has neither .safetensors nor a whole .gguf file{}", name.text(),
                          pickled ? "; its pickle weights are never loaded" : ""));
}

}  // namespace cortex
