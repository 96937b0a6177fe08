#include "text/grammar.h"

#include "text/rust.h"

namespace cortex {

TokenTrie::TokenTrie(std::span<const std::uint32_t> offsets, std::string_view bytes,
                     std::span<const std::uint8_t> special, std::span<const std::int32_t> ends) {
  if (offsets.size() != special.size() + 1) {
    throw Error(ErrorCode::invalid_tokenizer, "the vocabulary's offsets don't fit its texts");
  }
  const cortex_token_texts raw{.size = special.size(),
                               .offsets = offsets.data(),
                               .bytes = rust::span(bytes),
                               .special = special.data(),
                               .ends = ends.data(),
                               .ends_size = ends.size()};
  cortex_token_trie* trie = nullptr;
  cortex_bytes error{};
  rust::check(cortex_token_trie_new(&raw, &trie, &error), error, ErrorCode::invalid_tokenizer);
  trie_ = {trie, cortex_token_trie_free};
}

std::size_t TokenTrie::bytes() const { return cortex_token_trie_bytes(trie_.get()); }

CompiledGrammar::CompiledGrammar(const TokenTrie& trie, int syntax, std::string_view text) {
  cortex_grammar* grammar = nullptr;
  cortex_bytes error{};
  const cortex_status status =
      cortex_grammar_compile(trie.trie_.get(), static_cast<cortex_syntax>(syntax), rust::span(text), &grammar, &error);
  rust::check(status, error, ErrorCode::invalid_grammar);
  grammar_ = {grammar, cortex_grammar_free};
}

CompiledGrammar CompiledGrammar::of_json_schema(const TokenTrie& trie, std::string_view schema) {
  return {trie, CORTEX_JSON_SCHEMA, schema};
}

CompiledGrammar CompiledGrammar::of_regex(const TokenTrie& trie, std::string_view regex) {
  return {trie, CORTEX_REGEX, regex};
}

CompiledGrammar CompiledGrammar::of_lark(const TokenTrie& trie, std::string_view lark) {
  return {trie, CORTEX_LARK, lark};
}

std::size_t CompiledGrammar::bytes() const { return cortex_grammar_bytes(grammar_.get()); }

GrammarMatcher::GrammarMatcher(const CompiledGrammar& grammar) {
  cortex_matcher* matcher = nullptr;
  cortex_bytes error{};
  rust::check(cortex_matcher_new(grammar.grammar_.get(), &matcher, &error), error, ErrorCode::invalid_grammar);
  matcher_.reset(matcher);
}

void GrammarMatcher::Free::operator()(cortex_matcher* matcher) const { cortex_matcher_free(matcher); }

bool GrammarMatcher::allow(std::span<std::uint32_t> mask) {
  bool may_end = false;
  cortex_bytes error{};
  rust::check(cortex_matcher_mask(matcher_.get(), mask.data(), mask.size(), &may_end, &error), error,
              ErrorCode::invalid_grammar);
  return may_end;
}

bool GrammarMatcher::may_end() {
  bool may_end = false;
  cortex_bytes error{};
  rust::check(cortex_matcher_may_end(matcher_.get(), &may_end, &error), error, ErrorCode::invalid_grammar);
  return may_end;
}

bool GrammarMatcher::push(std::int32_t token) {
  bool taken = false;
  cortex_bytes error{};
  rust::check(cortex_matcher_push(matcher_.get(), token, &taken, &error), error, ErrorCode::invalid_grammar);
  return taken;
}

void GrammarMatcher::pop(int tokens) {
  cortex_bytes error{};
  rust::check(cortex_matcher_pop(matcher_.get(), static_cast<std::size_t>(tokens), &error), error,
              ErrorCode::invalid_grammar);
}

std::vector<std::int32_t> GrammarMatcher::forced(int most) {
  cortex_ids ids{};
  cortex_bytes error{};
  rust::check(cortex_matcher_forced(matcher_.get(), static_cast<std::size_t>(most), &ids, &error), error,
              ErrorCode::invalid_grammar);
  return rust::take(ids);
}

}  // namespace cortex
