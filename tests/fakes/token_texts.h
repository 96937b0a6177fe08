// Vocabularies as requests with a grammar bring them. Any thread.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "text/tokenizer.h"

namespace cortex {

inline std::shared_ptr<const TokenTexts> token_texts_of(const Tokenizer& tokenizer, std::vector<TokenId> ends) {
  const TokenTable table = tokenizer.token_table();
  TokenTexts texts;
  texts.offsets.assign(table.offsets.begin(), table.offsets.end());
  texts.bytes.assign(table.bytes.begin(), table.bytes.end());
  for (int id = 0; id < tokenizer.vocabulary_size(); ++id) texts.special.push_back(tokenizer.is_special(id) ? 1 : 0);
  texts.ends = std::move(ends);
  return std::make_shared<const TokenTexts>(std::move(texts));
}

// A token for each byte, and those of `more` behind them.
inline std::shared_ptr<const TokenTexts> byte_texts(const std::vector<std::string>& more, std::vector<TokenId> ends) {
  TokenTexts texts;
  texts.offsets.push_back(0);
  const auto add = [&](const std::string& text) {
    texts.bytes.insert(texts.bytes.end(), text.begin(), text.end());
    texts.offsets.push_back(static_cast<std::uint32_t>(texts.bytes.size()));
    texts.special.push_back(0);
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (const std::string& text : more) add(text);
  for (const TokenId end : ends) {
    if (end >= 0 && static_cast<std::size_t>(end) < texts.special.size())
      texts.special[static_cast<std::size_t>(end)] = 1;
  }
  texts.ends = std::move(ends);
  return std::make_shared<const TokenTexts>(std::move(texts));
}

}  // namespace cortex
