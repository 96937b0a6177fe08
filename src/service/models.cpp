#include "service/models.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/excerpt.h"

namespace cortex {
namespace {

constexpr std::size_t kLongestName = 96;
constexpr std::size_t kTextBytesPerToken = 64;
constexpr std::size_t kLeastTextLimitBytes = 64 << 10;

std::string_view name_of(Task task) {
  switch (task) {
    case Task::chat:
      return "chat";
    case Task::complete:
      return "complete";
    case Task::embed:
      return "embed";
    case Task::rerank:
      return "rerank";
  }
  return "";
}

Vocabulary vocabulary_of(GgufVocabulary gguf) {
  Vocabulary vocabulary;
  vocabulary.model = std::move(gguf.model);
  vocabulary.pre = std::move(gguf.pre);
  vocabulary.tokens = std::move(gguf.tokens);
  vocabulary.token_types = std::move(gguf.token_types);
  vocabulary.merges = std::move(gguf.merges);
  vocabulary.bos = gguf.bos;
  vocabulary.eos = gguf.eos;
  vocabulary.unknown = gguf.unknown;
  vocabulary.padding = gguf.padding;
  vocabulary.add_bos = gguf.add_bos;
  vocabulary.add_eos = gguf.add_eos;
  return vocabulary;
}

Tokenizer make_tokenizer(std::variant<TokenizerJson, GgufVocabulary> source) {
  if (auto* json = std::get_if<TokenizerJson>(&source)) return Tokenizer::from_json(json->text);
  return Tokenizer::from_vocabulary(vocabulary_of(std::move(std::get<GgufVocabulary>(source))));
}

ServedModel serve(const FileSystem& files, const ModelConfig& config) {
  Model model = open_model(files, config.path);
  ServedModel served;
  served.name = config.name;
  served.kind = model.is_decoder() ? ModelKind::chat : ModelKind::embed;
  served.context_tokens = model.context_tokens();
  served.vocabulary = model.vocabulary();
  if (!model.is_decoder()) served.dimensions = std::get<EncoderModel>(model.network).spec.hidden;
  served.tokenizer = std::make_shared<const Tokenizer>(make_tokenizer(std::move(model.tokenizer)));
  if (served.tokenizer->vocabulary_size() > served.vocabulary) {
    throw Error(ErrorCode::invalid_tokenizer,
                fmt::format("{}: the tokenizer has {} tokens, the model {} rows", config.path,
                            served.tokenizer->vocabulary_size(), served.vocabulary));
  }
  if (model.chat_template) served.chat_template.emplace(*model.chat_template, model.special_tokens);
  served.stop_ids = std::move(model.stop_ids);
  served.generation = model.generation;
  return served;
}

}  // namespace

bool ServedModel::can(Task task) const {
  if (task == Task::chat) return kind == ModelKind::chat && chat_template.has_value();
  if (task == Task::complete) return kind == ModelKind::chat;
  return kind == ModelKind::embed;
}

std::size_t ServedModel::text_limit_bytes() const {
  return std::max(kLeastTextLimitBytes, static_cast<std::size_t>(context_tokens) * kTextBytesPerToken);
}

std::string ServedModel::capabilities() const {
  if (kind == ModelKind::embed) return "embed and rerank";
  return chat_template ? "chat and complete" : "complete; it has no chat template";
}

Models::Models(const FileSystem& files, const std::vector<ModelConfig>& configs) {
  for (const auto& config : configs) {
    if (!is_model_name(config.name)) {
      throw Error(ErrorCode::invalid_option,
                  fmt::format("--model {}={}: a name is up to {} letters, digits, '.', '_', '-' and at most one '/', "
                              "beginning with a letter or digit",
                              config.name, config.path, kLongestName));
    }
    const auto same = [&](const ServedModel& model) { return model.name == config.name; };
    if (std::any_of(models_.begin(), models_.end(), same)) {
      throw Error(ErrorCode::invalid_option, fmt::format("--model {}: the name is given twice", config.name));
    }
    models_.push_back(serve(files, config));
  }
}

const ServedModel& Models::find(const std::optional<std::string>& name, Task task) const {
  if (!name) {
    const auto able = [&](const ServedModel& model) { return model.can(task); };
    const auto found = std::find_if(models_.begin(), models_.end(), able);
    if (found != models_.end()) return *found;
    throw Error(ErrorCode::model_not_found, fmt::format("model: none here can {}", name_of(task)), "model");
  }
  if (!is_model_name(*name)) {
    throw Error(
        ErrorCode::invalid_value,
        fmt::format("model: not a name; up to {} letters, digits, '.', '_', '-' and at most one '/'", kLongestName),
        "model");
  }
  const auto same = [&](const ServedModel& model) { return model.name == *name; };
  const auto found = std::find_if(models_.begin(), models_.end(), same);
  if (found == models_.end()) {
    throw Error(ErrorCode::model_not_found, fmt::format("model: there is no model {}", excerpt(*name)), "model");
  }
  if (!found->can(task)) {
    throw Error(ErrorCode::model_not_capable,
                fmt::format("model: \"{}\" can't {}; it can do {}", found->name, name_of(task), found->capabilities()),
                "model");
  }
  return *found;
}

bool is_model_name(std::string_view name) {
  const auto is_alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const auto is_allowed = [&](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-' || c == '/'; };
  return !name.empty() && name.size() <= kLongestName && is_alphanumeric(name.front()) && name.back() != '/' &&
         std::all_of(name.begin(), name.end(), is_allowed) && std::count(name.begin(), name.end(), '/') <= 1 &&
         name.find("..") == std::string_view::npos;
}

}  // namespace cortex
