// Grammars that a text keeps to, token by token, by llguidance. A trie of the vocabulary is made once a model, grammars
// are compiled for it, and a matcher follows one text. Tries and grammars are immutable and cheap to copy; any thread,
// several at once. A matcher has one owner and one thread at a time.
//
// JSON schemas are kept to in full or refused: docs/structured-output.md says what is supported. Between the parts of
// JSON there may be one blank, or a line break with up to 20 blanks or 8 tabs behind it, and nothing at its beginning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

struct cortex_token_trie;  // rust/text
struct cortex_grammar;
struct cortex_matcher;

namespace cortex {

class TokenTrie {
 public:
  // What each id adds to a text: bytes[offsets[i]] to bytes[offsets[i + 1]], offsets [ids + 1]. `special` [ids] is 1
  // for tokens that a grammar means by their names alone, as <name> in Lark; `ends` are those that end a text. Takes
  // some hundred milliseconds for large vocabularies. Throws Error invalid_tokenizer when they don't fit each other.
  TokenTrie(std::span<const std::uint32_t> offsets, std::string_view bytes, std::span<const std::uint8_t> special,
            std::span<const std::int32_t> ends);

  std::size_t bytes() const;  // about what it takes

 private:
  friend class CompiledGrammar;
  std::shared_ptr<const cortex_token_trie> trie_;
};

class CompiledGrammar {
 public:
  // Each may take seconds, and all memory that it takes meanwhile is bounded. Throws Error invalid_schema or
  // unsupported_schema, with the place in the schema; invalid_grammar for a bad regular expression or Lark grammar,
  // with its line; engine_unavailable when the machine can't start a thread for it.
  static CompiledGrammar of_json_schema(const TokenTrie& trie, std::string_view schema);
  static CompiledGrammar of_regex(const TokenTrie& trie, std::string_view regex);  // the whole text matches it
  // llguidance's dialect: with %json {schema}, and <name> for special tokens. As schemas, what stands in it is kept to
  // or refused.
  static CompiledGrammar of_lark(const TokenTrie& trie, std::string_view lark);

  std::size_t bytes() const;  // about what it takes now: it learns from its matchers

 private:
  friend class GrammarMatcher;
  CompiledGrammar(const TokenTrie& trie, int syntax, std::string_view text);
  std::shared_ptr<const cortex_grammar> grammar_;
};

// All throw Error invalid_grammar when that takes more than the limits allow; the matcher is of no use then.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(const CompiledGrammar& grammar);

  // Sets in `mask` [a bit per token] the tokens that may come next and clears all others, those beyond the vocabulary
  // too. True when the text may also end here.
  bool allow(std::span<std::uint32_t> mask);
  bool may_end();
  // The text goes on with this token. False, and nothing has changed, where it may not come.
  bool push(std::int32_t token);
  // Takes back the last `tokens` that were pushed.
  void pop(int tokens);
  // Tokens that spell what must come next, at most so many; the same text may be spelt by others.
  std::vector<std::int32_t> forced(int most);

 private:
  struct Free {
    void operator()(cortex_matcher* matcher) const;
  };
  std::unique_ptr<cortex_matcher, Free> matcher_;
};

}  // namespace cortex
