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

bool is_model(const HubFile& file) { return is_gguf_model(file.path); }
bool is_part(const HubFile& file) { return gguf_part(file.path).has_value(); }

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
  const auto is_named = [&](const HubFile& file) { return file.path == name.file; };
  const auto is_meant = [&](const HubFile& file) { return is_named(file) || has_quantisation(file.path, name.file); };
  const std::vector<HubFile> choices = those(files, is_model);
  std::vector<HubFile> found = those(choices, is_named);
  if (found.empty()) found = those(choices, is_meant);
  if (found.size() == 1) return found;
  std::string what = "is more than once there";
  if (found.empty()) {
    const bool parts =
        std::any_of(files.begin(), files.end(), [&](const auto& file) { return is_part(file) && is_meant(file); });
    const bool other = std::any_of(files.begin(), files.end(), is_named);
    what = parts ? fmt::format("is {}", kGgufPartsAdvice) : other ? "is no .gguf model" : "is not there";
  }
  throw Error(ErrorCode::invalid_value,
              fmt::format("{}: \"{}\" {}; {}{}", name.text(), name.file, what,
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
  std::vector<HubFile> choices = those(files, is_model);
  if (choices.size() == 1) return choices;
  if (!choices.empty()) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("{}: has {} models; name a file or its quantisation after a colon:{}", name.text(),
                            choices.size(), listed(choices)));
  }
  const bool pickled = std::any_of(files.begin(), files.end(), [](const auto& file) { return is_pickle(file.path); });
  if (std::any_of(files.begin(), files.end(), is_part)) {
    throw Error(ErrorCode::model_not_found, fmt::format("{}: its model is {}", name.text(), kGgufPartsAdvice));
  }
  throw Error(ErrorCode::model_not_found,
              fmt::format("{}: has neither .safetensors nor a whole .gguf file{}", name.text(),
                          pickled ? "; its pickle weights are never loaded" : ""));
}

}  // namespace cortex
