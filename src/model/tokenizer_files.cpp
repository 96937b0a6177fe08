#include "model/tokenizer_files.h"

#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "model/generation_defaults.h"
#include "model/json_file.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMaxTokenizerBytes = 64 << 20;
constexpr std::uint64_t kMaxConfigBytes = 16 << 20;  // tokenizer_config.json may list every added token
constexpr std::uint64_t kMaxTemplateBytes = 1 << 20;

constexpr std::array<std::string_view, 7> kSpecialTokens = {"bos_token", "eos_token", "unk_token", "pad_token",
                                                            "sep_token", "cls_token", "mask_token"};

// The id of a token in tokenizer.json: among the added ones, or else in the model's vocabulary. It is read in place:
// this file can have hundreds of thousands of tokens.
std::optional<std::int64_t> find_token(std::string_view tokenizer_json, std::string_view token) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  auto error = parser.allocate(std::max<std::size_t>(tokenizer_json.size(), 64), kJsonDepth);
  if (!error) error = parser.parse(tokenizer_json.data(), tokenizer_json.size()).get(root);
  if (error) {
    throw Error(ErrorCode::invalid_tokenizer,
                fmt::format("tokenizer.json: is not valid JSON: {}", simdjson::error_message(error)));
  }
  simdjson::dom::array added;
  if (root["added_tokens"].get(added) == simdjson::SUCCESS) {
    for (const auto entry : added) {
      std::string_view content;
      std::int64_t id = 0;
      if (entry["content"].get(content) || entry["id"].get(id)) continue;
      if (content == token) return id;
    }
  }
  simdjson::dom::object vocabulary;  // of BPE and WordPiece; a unigram's is an array
  std::int64_t id = 0;
  if (root["model"]["vocab"].get(vocabulary) || vocabulary.at_key(token).get(id)) return std::nullopt;
  return id;
}

// A string, or an added token's object with its text in `content`.
std::optional<std::string> read_special_token(const Fields& config, std::string_view name) {
  const Value* value = config.find(name);
  if (!value) return std::nullopt;
  if (const auto* object = value->as<Value::Object>()) return (*object)->text("content");
  return *config.find_text(name);
}

// A string, or a list of named ones of which "default" is the one for chats.
std::optional<std::string> read_chat_template(const Fields& config) {
  const Value* value = config.find("chat_template");
  if (!value) return std::nullopt;
  const auto* named = value->as<Value::Array>();
  if (!named) return *config.find_text("chat_template");
  for (const Value& entry : *named) {
    const auto* object = entry.as<Value::Object>();
    if (!object) config.fail("chat_template", describe(entry) + " in the list is not an object");
    if ((*object)->text("name") == "default") return (*object)->text("template");
  }
  return std::nullopt;
}

// `eos_token_id` is an id or a list of them.
void add_stop_ids(const Fields& fields, int vocabulary, std::vector<std::int32_t>* ids) {
  const Value* value = fields.find("eos_token_id");
  if (!value) return;
  const auto* list = value->as<Value::Array>();
  for (const Value& entry : list ? *list : Value::Array{*value}) {
    const auto* id = entry.as<std::int64_t>();
    if (!id || *id < 0 || *id >= vocabulary) {
      fields.fail("eos_token_id", fmt::format("{} is not an id from 0 to {}", describe(entry), vocabulary - 1));
    }
    ids->push_back(static_cast<std::int32_t>(*id));
  }
}

void add_eos_token(const Model& model, std::vector<std::int32_t>* ids) {
  const auto token = model.special_tokens.find("eos_token");
  if (token == model.special_tokens.end()) return;
  const auto id = find_token(std::get<TokenizerJson>(model.tokenizer).text, token->second);
  if (!id) {
    throw Error(ErrorCode::invalid_tokenizer,
                fmt::format("tokenizer_config.json: eos_token: {} is not in tokenizer.json", quote(token->second)));
  }
  if (*id < 0 || *id >= model.vocabulary()) {
    throw Error(ErrorCode::invalid_tokenizer, fmt::format("tokenizer.json: token {}: id {} is not from 0 to {}",
                                                          quote(token->second), *id, model.vocabulary() - 1));
  }
  ids->push_back(static_cast<std::int32_t>(*id));
}

void read_tokenizer_config(const ModelFolder& folder, Model* model) {
  const auto text = folder.find_text("tokenizer_config.json", kMaxConfigBytes, ErrorCode::invalid_tokenizer);
  if (text) {
    const Fields fields = parse_json_object(*text, "tokenizer_config.json", ErrorCode::invalid_tokenizer);
    for (const std::string_view name : kSpecialTokens) {
      if (auto token = read_special_token(fields, name)) model->special_tokens.emplace(name, std::move(*token));
    }
    model->chat_template = read_chat_template(fields);
  }
  auto jinja = folder.find_text("chat_template.jinja", kMaxTemplateBytes, ErrorCode::invalid_tokenizer);
  if (jinja) model->chat_template = std::move(jinja);
}

}  // namespace

void read_tokenizer_files(const ModelFolder& folder, const Fields& config, Model* model) {
  auto text = folder.find_text("tokenizer.json", kMaxTokenizerBytes, ErrorCode::invalid_tokenizer);
  if (!text) throw Error(ErrorCode::invalid_tokenizer, "tokenizer.json: is missing from " + model->path.string());
  model->tokenizer = TokenizerJson{std::move(*text)};
  read_tokenizer_config(folder, model);
  if (!model->is_decoder()) return;

  add_stop_ids(config, model->vocabulary(), &model->stop_ids);
  const auto generation = folder.find_text("generation_config.json", kMaxConfigBytes, ErrorCode::invalid_config);
  if (generation) {
    const Fields fields = parse_json_object(*generation, "generation_config.json", ErrorCode::invalid_config);
    model->generation = read_generation(fields, kGenerationConfigFields);
    add_stop_ids(fields, model->vocabulary(), &model->stop_ids);
  }
  add_eos_token(*model, &model->stop_ids);
  std::sort(model->stop_ids.begin(), model->stop_ids.end());
  model->stop_ids.erase(std::unique(model->stop_ids.begin(), model->stop_ids.end()), model->stop_ids.end());
}

}  // namespace cortex
