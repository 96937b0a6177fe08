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

// Whose task it is; others may be able to do it too.
ModelKind kind_of(Task task) {
  switch (task) {
    case Task::chat:
    case Task::complete:
      return ModelKind::chat;
    case Task::embed:
      return ModelKind::embed;
    case Task::rerank:
      return ModelKind::rerank;
  }
  check_failed("a Task of the enumeration", __FILE__, __LINE__);
}

Vocabulary vocabulary_of(GgufVocabulary gguf) {
  Vocabulary vocabulary;
  vocabulary.model = std::move(gguf.model);
  vocabulary.pre = std::move(gguf.pre);
  vocabulary.tokens = std::move(gguf.tokens);
  vocabulary.token_types = std::move(gguf.token_types);
  vocabulary.merges = std::move(gguf.merges);
  vocabulary.scores = std::move(gguf.scores);
  vocabulary.bos = gguf.bos;
  vocabulary.eos = gguf.eos;
  vocabulary.unknown = gguf.unknown;
  vocabulary.padding = gguf.padding;
  vocabulary.add_bos = gguf.add_bos;
  vocabulary.add_eos = gguf.add_eos;
  vocabulary.add_space_prefix = gguf.add_space_prefix;
  vocabulary.marks_take_blanks = gguf.marks_take_blanks;
  return vocabulary;
}

Tokenizer make_tokenizer(std::variant<TokenizerJson, GgufVocabulary> source) {
  if (auto* json = std::get_if<TokenizerJson>(&source)) return Tokenizer::from_json(json->text);
  return Tokenizer::from_vocabulary(vocabulary_of(std::move(std::get<GgufVocabulary>(source))));
}

// A decoder can always chat and answer yes or no, and what embeds can compare; a head can't be had.
bool can_be(const Model& model, ModelKind kind) {
  if (kind == model.kind) return true;
  if (model.is_decoder()) return kind == ModelKind::chat || kind == ModelKind::rerank;
  return model.kind == ModelKind::embed && kind == ModelKind::rerank;
}

ModelKind choose_kind(const ModelConfig& config, const Model& model) {
  const ModelKind kind = config.kind.value_or(model.kind);
  if (can_be(model, kind)) return kind;
  throw Error(ErrorCode::invalid_option,
              fmt::format("--model {}={},kind={}: its files make it a model of kind {}, "
                          "which can't be one of kind {}",
                          config.name, config.path, name_of(kind), name_of(model.kind), name_of(kind)));
}

std::optional<RerankBy> choose_rerank(const Model& model, ModelKind kind) {
  if (kind == ModelKind::embed) return RerankBy::cosine;
  if (kind != ModelKind::rerank) return std::nullopt;
  if (model.kind == ModelKind::embed) return RerankBy::cosine;
  return model.is_decoder() ? RerankBy::generative : RerankBy::head;
}

// Text never becomes a special token, so these may lie above the model's rows; nothing else may.
void require_rows(const Tokenizer& tokenizer, int rows) {
  for (int id = rows; id < tokenizer.vocabulary_size(); ++id) {
    if (tokenizer.is_special(id) || tokenizer.token_bytes(id).empty()) continue;
    throw Error(ErrorCode::invalid_tokenizer,
                fmt::format("the tokenizer has {} tokens, the model {} rows", tokenizer.vocabulary_size(), rows));
  }
}

void read_tokenizer(Model* model, ServedModel* served) {
  const Tokenizer tokenizer = make_tokenizer(std::move(model->tokenizer));
  require_rows(tokenizer, served->vocabulary);
  if (served->rerank == RerankBy::head) served->frame = pair_frame(tokenizer);
  if (served->rerank == RerankBy::generative) {
    served->frame = question_frame(tokenizer);
    served->answers = model->answers ? *model->answers : answer_ids(tokenizer);
  }
  served->tokenizer = std::make_shared<const Tokenizer>(tokenizer);
}

// What goes wrong in `read` says which file it is about.
template <typename Read>
void naming(const std::string& file, const Read& read) {
  try {
    read();
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", file, error.message()));
  }
}

ServedModel serve(const FileSystem& files, const ModelConfig& config) {
  Model model = open_model(files, config.path);
  ServedModel served;
  served.name = config.name;
  served.kind = choose_kind(config, model);
  served.context_tokens = model.context_tokens();
  served.vocabulary = model.vocabulary();
  if (const auto* encoder = std::get_if<EncoderModel>(&model.network)) served.token_types = encoder->spec.token_types;
  if (model.kind == ModelKind::embed) {
    served.dimensions = std::visit([](const auto& network) { return network.spec.hidden; }, model.network);
  }
  served.rerank = choose_rerank(model, served.kind);
  served.embedding = std::move(model.embedding);
  const bool is_folder = std::holds_alternative<TokenizerJson>(model.tokenizer);
  naming(is_folder ? config.path + "/tokenizer.json" : config.path, [&] { read_tokenizer(&model, &served); });
  naming(config.path, [&] {
    if (model.chat_template) served.chat_template.emplace(*model.chat_template, model.special_tokens);
  });
  served.reply_style = find_reply_style(model.chat_template.value_or(""), *served.tokenizer);
  served.stop_ids = std::move(model.stop_ids);
  served.grammar_vocabulary =
      std::make_shared<const GrammarVocabulary>(served.tokenizer, served.vocabulary, served.stop_ids);
  served.generation = model.generation;
  return served;
}

}  // namespace

GrammarVocabulary::GrammarVocabulary(std::shared_ptr<const Tokenizer> tokenizer, int rows, std::vector<TokenId> ends)
    : tokenizer_(std::move(tokenizer)), rows_(rows), ends_(std::move(ends)) {}

std::shared_ptr<const TokenTexts> GrammarVocabulary::texts() const {
  std::call_once(made_, [this] {
    const TokenTable table = tokenizer_->token_table();
    const auto ids = static_cast<std::size_t>(std::min(tokenizer_->vocabulary_size(), rows_));
    auto texts = std::make_shared<TokenTexts>();
    texts->offsets.assign(table.offsets.begin(), table.offsets.begin() + static_cast<std::ptrdiff_t>(ids) + 1);
    const std::string_view bytes = table.bytes.substr(0, texts->offsets.back());
    texts->bytes.assign(bytes.begin(), bytes.end());
    for (std::size_t id = 0; id < ids; ++id) texts->special.push_back(tokenizer_->is_special(static_cast<TokenId>(id)));
    texts->ends = ends_;
    texts_ = std::move(texts);
  });
  return texts_;
}

bool ServedModel::can(Task task) const {
  if (task == Task::chat) return kind == ModelKind::chat && chat_template.has_value();
  return task == Task::rerank ? rerank.has_value() : kind == kind_of(task);
}

std::size_t ServedModel::text_limit_bytes() const {
  return std::max(kLeastTextLimitBytes, static_cast<std::size_t>(context_tokens) * kTextBytesPerToken);
}

std::string ServedModel::capabilities() const {
  if (kind == ModelKind::embed) return "embed and rerank";
  if (kind != ModelKind::chat) return std::string(name_of(kind));
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
    const auto own = [&](const ServedModel& model) { return model.can(task) && model.kind == kind_of(task); };
    auto found = std::find_if(models_.begin(), models_.end(), own);
    if (found == models_.end()) found = std::find_if(models_.begin(), models_.end(), able);
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
