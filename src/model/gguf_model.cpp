#include "model/gguf_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string_view>

#include "base/error.h"
#include "model/arch/registry.h"
#include "model/generation_defaults.h"
#include "model/gguf.h"
#include "model/model_folder.h"

namespace cortex {
namespace {

enum TokenType : std::int32_t { normal = 1, control = 3, user_defined = 4, unused = 5, last = 6 };

// What models write at the end of a turn, whether or not the metadata says so, and at its start.
constexpr std::array<std::string_view, 7> kTurnEnds = {"<|im_end|>", "<|eot_id|>",    "<|end|>",        "<end_of_turn>",
                                                       "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>"};
constexpr std::array<std::string_view, 3> kTurnStarts = {"<|im_start|>", "<|start_header_id|>", "<start_of_turn>"};

// Pre-tokenizers of models that begin a text with their first token where the file does not say otherwise, as
// SentencePiece's do.
constexpr std::array<std::string_view, 3> kBeginningPres = {"llama-bpe", "llama3", "llama-v3"};

template <std::size_t kCount>
bool is_one_of(const std::array<std::string_view, kCount>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

[[noreturn]] void fail(const Fields& metadata, std::string_view key, const std::string& what) {
  metadata.fail(key, what, ErrorCode::invalid_tokenizer);
}

std::vector<std::string> read_texts(const Fields& metadata, std::string_view key) {
  const auto* array = metadata.find_array(key);
  if (!array) return {};
  std::vector<std::string> texts;
  texts.reserve(array->size());
  for (const Value& value : *array) {
    const auto* text = value.as<std::string>();
    if (!text) fail(metadata, key, describe(value) + " in the array is not a string");
    texts.push_back(*text);
  }
  return texts;
}

std::vector<std::int32_t> read_token_types(const Fields& metadata, std::size_t tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const auto* array = metadata.find_array(kKey);
  if (!array) return std::vector<std::int32_t>(tokens, TokenType::normal);
  if (array->size() != tokens) {
    fail(metadata, kKey, fmt::format("{} types for {} tokens", array->size(), tokens));
  }
  std::vector<std::int32_t> types;
  types.reserve(tokens);
  for (const Value& value : *array) {
    const auto* type = value.as<std::int64_t>();
    if (!type || *type < TokenType::normal || *type > TokenType::last) {
      fail(metadata, kKey, fmt::format("{} is not a type from 1 to 6", describe(value)));
    }
    types.push_back(static_cast<std::int32_t>(*type));
  }
  return types;
}

std::vector<float> read_scores(const Fields& metadata, std::size_t tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.scores";
  const auto* array = metadata.find_array(kKey);
  if (!array) return {};
  if (array->size() != tokens) fail(metadata, kKey, fmt::format("{} scores for {} tokens", array->size(), tokens));
  std::vector<float> scores;
  scores.reserve(tokens);
  for (const Value& value : *array) {
    const auto* score = value.as<double>();
    if (!score || !std::isfinite(*score)) fail(metadata, kKey, describe(value) + " in the array is not a number");
    scores.push_back(static_cast<float>(*score));
  }
  return scores;
}

// Some converters call them ordinary, so that no text would be cut into them: those of Gemma 3's fine-tunes and of its
// makers' own Q4_0 files. llama.cpp overrides the type as well.
void retype_turn_marks(GgufVocabulary* vocabulary) {
  for (std::size_t id = 0; id < vocabulary->tokens.size(); ++id) {
    std::int32_t& type = vocabulary->token_types[id];
    if (type != TokenType::normal) continue;
    const std::string& token = vocabulary->tokens[id];
    if (is_one_of(kTurnEnds, token) || is_one_of(kTurnStarts, token)) type = TokenType::control;
  }
}

// No text makes a control or unused token, so where the embedding has no row for such ones they may go.
void cut_to_embedding(const Fields& metadata, std::size_t rows, GgufVocabulary* vocabulary) {
  const std::size_t tokens = vocabulary->tokens.size();
  for (std::size_t id = rows; id < tokens; ++id) {
    const std::int32_t type = vocabulary->token_types[id];
    if (type == TokenType::control || type == TokenType::unused) continue;
    fail(metadata, "tokenizer.ggml.tokens",
         fmt::format("{} tokens for an embedding of {} rows, and token {}, {}, is neither control nor unused", tokens,
                     rows, id, quote(vocabulary->tokens[id])));
  }
  if (tokens <= rows) return;
  vocabulary->tokens.resize(rows);
  vocabulary->token_types.resize(rows);
  if (!vocabulary->scores.empty()) vocabulary->scores.resize(rows);
}

GgufVocabulary read_vocabulary(const Fields& metadata, int rows) {
  GgufVocabulary out;
  if (!metadata.contains("tokenizer.ggml.tokens")) fail(metadata, "tokenizer.ggml.tokens", "is missing");
  if (!metadata.contains("tokenizer.ggml.model")) fail(metadata, "tokenizer.ggml.model", "is missing");
  out.model = metadata.text("tokenizer.ggml.model");
  if (const auto* pre = metadata.find_text("tokenizer.ggml.pre")) out.pre = *pre;
  out.tokens = read_texts(metadata, "tokenizer.ggml.tokens");
  if (out.tokens.empty()) fail(metadata, "tokenizer.ggml.tokens", "is empty");
  out.token_types = read_token_types(metadata, out.tokens.size());
  retype_turn_marks(&out);
  out.scores = read_scores(metadata, out.tokens.size());
  cut_to_embedding(metadata, static_cast<std::size_t>(rows), &out);
  out.merges = read_texts(metadata, "tokenizer.ggml.merges");
  const int last = static_cast<int>(out.tokens.size()) - 1;
  out.bos = metadata.find_integer("tokenizer.ggml.bos_token_id", 0, last);
  out.eos = metadata.find_integer("tokenizer.ggml.eos_token_id", 0, last);
  out.unknown = metadata.find_integer("tokenizer.ggml.unknown_token_id", 0, last);
  out.padding = metadata.find_integer("tokenizer.ggml.padding_token_id", 0, last);
  const bool begins = out.model == "llama" || (out.bos && is_one_of(kBeginningPres, out.pre));
  out.add_bos = metadata.find_boolean("tokenizer.ggml.add_bos_token").value_or(begins);
  out.add_eos = metadata.find_boolean("tokenizer.ggml.add_eos_token").value_or(false);
  out.add_space_prefix = metadata.find_boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  // No field says so; Phi-4's, of the same architecture, has another vocabulary.
  const auto* architecture = metadata.find_text("general.architecture");
  out.marks_take_blanks = architecture && *architecture == "phi3" && out.model == "llama";
  return out;
}

std::vector<std::int32_t> read_stop_ids(const Fields& metadata, const GgufVocabulary& vocabulary) {
  std::vector<std::int32_t> ids;
  if (vocabulary.eos) ids.push_back(*vocabulary.eos);
  const int last = static_cast<int>(vocabulary.tokens.size()) - 1;
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const auto id = metadata.find_integer(key, 0, last)) ids.push_back(*id);
  }
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const std::int32_t type = vocabulary.token_types[i];
    if (type != TokenType::control && type != TokenType::user_defined) continue;
    if (is_one_of(kTurnEnds, vocabulary.tokens[i])) ids.push_back(static_cast<std::int32_t>(i));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::map<std::string, std::string> special_tokens_of(const GgufVocabulary& vocabulary) {
  std::map<std::string, std::string> tokens;
  const auto add = [&](const char* name, const std::optional<std::int32_t>& id) {
    if (id) tokens.emplace(name, vocabulary.tokens[static_cast<std::size_t>(*id)]);
  };
  add("bos_token", vocabulary.bos);
  add("eos_token", vocabulary.eos);
  add("unk_token", vocabulary.unknown);
  add("pad_token", vocabulary.padding);
  return tokens;
}

// Of the types that matrices have the most common one: a file's name for itself, such as Q4_K_M, is a mixture.
std::string format_of(const std::vector<TensorView>& tensors) {
  std::map<std::string_view, int> counts;
  for (const TensorView& tensor : tensors) {
    if (tensor.shape.size() > 1) ++counts[layout_of(tensor.dtype).name];
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == counts.end() ? "GGUF" : fmt::format("GGUF {}", most->first);
}

// A decoder that embeds says so; llama.cpp normalises what it pools.
void read_pooling(const Fields& metadata, std::string_view architecture, Model* model) {
  enum : std::uint8_t { none = 0, last_token = 3, rank = 4 };
  const std::string key = fmt::format("{}.pooling_type", architecture);
  const int type = metadata.find_integer(key, none, rank).value_or(none);
  if (type == none) return;
  if (type != last_token) {
    metadata.fail(key, fmt::format("{} is not supported for a decoder; only 0, none, and 3, the last token", type));
  }
  model->kind = ModelKind::embed;
  model->embedding.pooling = Pooling::last_token;
  model->embedding.normalise = true;
}

// Of a model that is split over files each holds a part.
void refuse_parts(const Fields& metadata) {
  constexpr std::string_view kKey = "split.count";
  const int count = metadata.find_integer(kKey, 0, std::numeric_limits<std::uint16_t>::max()).value_or(0);
  if (count <= 1) return;
  metadata.fail(kKey,
                fmt::format("a model of {} files; only whole ones are supported (`llama-gguf-split --merge`)", count));
}

}  // namespace

Model open_gguf(const FileSystem& files, const std::filesystem::path& path) {
  GgufFile file = read_gguf(open_model_file(files, path));
  refuse_parts(file.metadata);
  const Architecture& architecture = gguf_architecture(file.metadata);
  Model model;
  model.path = path;
  model.architecture = architecture.gguf_name;
  model.format = format_of(file.tensors);
  read_pooling(file.metadata, architecture.gguf_name, &model);
  TensorMap tensors(path.filename().string(), std::move(file.tensors));
  model.weight_bytes = tensors.bytes();
  model.network = architecture.from_gguf(file.metadata, &tensors);
  tensors.refuse_rest();
  GgufVocabulary vocabulary = read_vocabulary(file.metadata, model.vocabulary());
  model.generation = read_generation(file.metadata, kGgufGenerationFields);
  model.stop_ids = read_stop_ids(file.metadata, vocabulary);
  model.special_tokens = special_tokens_of(vocabulary);
  if (const auto* text = file.metadata.find_text("tokenizer.chat_template")) model.chat_template = *text;
  model.tokenizer = std::move(vocabulary);
  return model;
}

}  // namespace cortex
