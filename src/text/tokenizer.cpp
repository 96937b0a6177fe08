#include "text/tokenizer.h"

#include <fmt/core.h>

#include "base/error.h"
#include "text/detokenizer.h"
#include "text/rust.h"

namespace cortex {
namespace {

std::vector<cortex_span> spans(const std::vector<std::string>& texts) {
  std::vector<cortex_span> spans;
  spans.reserve(texts.size());
  for (const auto& text : texts) spans.push_back(rust::span(text));
  return spans;
}

}  // namespace

Tokenizer::Tokenizer(cortex_tokenizer* tokenizer) : tokenizer_(tokenizer, cortex_tokenizer_free) {
  const cortex_token_table table = cortex_tokenizer_table(tokenizer);
  table_.offsets = {table.offsets, table.size + 1};
  table_.bytes = {table.bytes, table_.offsets.back()};
  special_ = {table.special, table.size};
  drops_first_space_ = table.drops_first_space;
}

Tokenizer Tokenizer::from_json(std::string_view json) {
  cortex_tokenizer* tokenizer = nullptr;
  cortex_bytes error{};
  rust::check(cortex_tokenizer_from_json(rust::span(json), &tokenizer, &error), error, ErrorCode::invalid_tokenizer);
  return Tokenizer(tokenizer);
}

Tokenizer Tokenizer::from_vocabulary(const Vocabulary& vocabulary) {
  if (vocabulary.token_types.size() != vocabulary.tokens.size()) {
    throw Error(ErrorCode::invalid_tokenizer, fmt::format("tokenizer.ggml.token_type: {} entries for {} tokens",
                                                          vocabulary.token_types.size(), vocabulary.tokens.size()));
  }
  const auto tokens = spans(vocabulary.tokens);
  const auto merges = spans(vocabulary.merges);
  const cortex_vocabulary raw{
      .model = rust::span(vocabulary.model),
      .pre = rust::span(vocabulary.pre),
      .tokens = tokens.data(),
      .token_types = vocabulary.token_types.data(),
      .scores = vocabulary.scores.data(),
      .scores_size = vocabulary.scores.size(),
      .tokens_size = tokens.size(),
      .merges = merges.data(),
      .merges_size = merges.size(),
      .bos = vocabulary.bos.value_or(-1),
      .eos = vocabulary.eos.value_or(-1),
      .add_bos = vocabulary.add_bos,
      .add_eos = vocabulary.add_eos,
      .add_space_prefix = vocabulary.add_space_prefix,
      .marks_take_blanks = vocabulary.marks_take_blanks,
  };
  cortex_tokenizer* tokenizer = nullptr;
  cortex_bytes error{};
  rust::check(cortex_tokenizer_from_vocabulary(&raw, &tokenizer, &error), error, ErrorCode::invalid_tokenizer);
  return Tokenizer(tokenizer);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  cortex_ids ids{};
  cortex_bytes error{};
  rust::check(cortex_tokenizer_encode(tokenizer_.get(), rust::span(text), nullptr, options.add_special_tokens,
                                      options.parse_special, &ids, nullptr, &error),
              error, ErrorCode::invalid_value);
  return rust::take(ids);
}

EncodedPair Tokenizer::encode_pair(std::string_view first, std::string_view second,
                                   const EncodeOptions& options) const {
  const cortex_span pair = rust::span(second);
  cortex_ids ids{};
  cortex_ids types{};
  cortex_bytes error{};
  rust::check(cortex_tokenizer_encode(tokenizer_.get(), rust::span(first), &pair, options.add_special_tokens,
                                      options.parse_special, &ids, &types, &error),
              error, ErrorCode::invalid_value);
  return {rust::take(ids), rust::take(types)};
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  // Shares this tokenizer without owning it: the detokenizer does not outlive the call.
  Detokenizer detokenizer(std::shared_ptr<const Tokenizer>(std::shared_ptr<void>(), this), skip_special);
  std::string text;
  for (const std::int32_t id : ids) text += detokenizer.push(id);
  return text + detokenizer.finish();
}

int Tokenizer::vocabulary_size() const { return static_cast<int>(special_.size()); }

std::optional<std::int32_t> Tokenizer::token_id(std::string_view token) const {
  const std::int32_t id = cortex_tokenizer_id(tokenizer_.get(), rust::span(token));
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Tokenizer::knows(std::int32_t id) const { return id >= 0 && id < vocabulary_size(); }

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  if (!knows(id)) return {};
  const auto i = static_cast<std::size_t>(id);
  return table_.bytes.substr(table_.offsets[i], table_.offsets[i + 1] - table_.offsets[i]);
}

bool Tokenizer::is_special(std::int32_t id) const { return knows(id) && special_[static_cast<std::size_t>(id)] != 0; }

TokenTable Tokenizer::token_table() const { return table_; }

bool Tokenizer::drops_first_space() const { return drops_first_space_; }

}  // namespace cortex
