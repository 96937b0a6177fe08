// Grammars over a vocabulary of bytes, which the tests of grammars share.
#pragma once

#include <gtest/gtest.h>

#include <ctime>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/grammar.h"

namespace cortex {

inline constexpr std::int32_t kEnd = 256;
inline constexpr std::int32_t kCall = 257;  // <|call|>, special

// `special` are those that a grammar means by their names, the first of them ends a text.
inline TokenTrie trie_of(const std::vector<std::string>& texts, const std::vector<std::int32_t>& special) {
  std::vector<std::uint32_t> offsets{0};
  std::string bytes;
  for (const auto& text : texts) {
    bytes += text;
    offsets.push_back(static_cast<std::uint32_t>(bytes.size()));
  }
  std::vector<std::uint8_t> is_special(texts.size(), 0);
  for (const auto id : special) is_special[static_cast<std::size_t>(id)] = 1;
  return TokenTrie(offsets, bytes, is_special, std::vector{special.front()});
}

// A token for each byte, one to end with, and one special.
inline std::vector<std::string> byte_tokens() {
  std::vector<std::string> texts;
  for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
  texts.emplace_back("<|end|>");
  texts.emplace_back("<|call|>");
  return texts;
}

// And some longer ones.
inline const TokenTrie& bytes_trie() {
  static const TokenTrie trie = [] {
    std::vector<std::string> texts = byte_tokens();
    for (const char* text : {"\":", " \"", "tr", "true", "name", "  ", "\n\n"}) texts.emplace_back(text);
    return trie_of(texts, {kEnd, kCall});
  }();
  return trie;
}

inline bool is_set(std::span<const std::uint32_t> mask, std::int32_t token) {
  const auto id = static_cast<std::size_t>(token);
  return (mask[id / 32] >> (id % 32) & 1) != 0;
}

inline std::vector<std::int32_t> allowed(GrammarMatcher* matcher, int tokens) {
  std::vector<std::uint32_t> mask(static_cast<std::size_t>(tokens + 31) / 32);
  matcher->allow(mask);
  std::vector<std::int32_t> ids;
  for (std::int32_t id = 0; id < tokens; ++id) {
    if (is_set(mask, id)) ids.push_back(id);
  }
  return ids;
}

// Byte by byte, each in the mask before it.
inline bool accepts(const CompiledGrammar& grammar, const std::string& text) {
  GrammarMatcher matcher(grammar);
  std::vector<std::uint32_t> mask(9);
  for (const char c : text) {
    const auto token = static_cast<std::int32_t>(static_cast<unsigned char>(c));
    matcher.allow(mask);
    const bool allowed = is_set(mask, token);
    EXPECT_EQ(matcher.push(token), allowed) << text;
    if (!allowed) return false;
  }
  return matcher.may_end();
}

inline bool accepts(const std::string& schema, const std::string& text) {
  return accepts(CompiledGrammar::of_json_schema(bytes_trie(), schema), text);
}

enum class Kind { schema, regex, lark };

inline CompiledGrammar compile(Kind kind, const std::string& text) {
  switch (kind) {
    case Kind::schema:
      return CompiledGrammar::of_json_schema(bytes_trie(), text);
    case Kind::regex:
      return CompiledGrammar::of_regex(bytes_trie(), text);
    case Kind::lark:
      break;
  }
  return CompiledGrammar::of_lark(bytes_trie(), text);
}

// Of this process, all of its threads: others don't disturb it.
inline double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// "code: message", within the time that a server has.
inline std::string failure_of(Kind kind, const std::string& text) {
  const double begin = processor_seconds();
  std::string failure = "no error";
  try {
    compile(kind, text);
  } catch (const Error& error) {
    failure = std::string(name_of(error.code())) + ": " + error.message();
  }
  EXPECT_LT(processor_seconds() - begin, 2.0) << text.substr(0, 100);
  return failure;
}

inline std::string repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace cortex
