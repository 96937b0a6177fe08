// The input is a JSON schema; or, after "regex" or "lark" and a NUL byte, such a grammar. After it may come a text, of
// which the matcher takes what it may, byte by byte, back and forth.
#include <vector>

#include "input.h"
#include "text/grammar.h"

namespace cortex {
namespace {

constexpr std::int32_t kEnd = 256;

// A token for each byte, and one to end with.
TokenTrie make_trie() {
  std::vector<std::uint32_t> offsets{0};
  std::string bytes;
  for (int byte = 0; byte < kEnd; ++byte) {
    bytes.push_back(static_cast<char>(byte));
    offsets.push_back(static_cast<std::uint32_t>(bytes.size()));
  }
  bytes += "<|end|>";
  offsets.push_back(static_cast<std::uint32_t>(bytes.size()));
  std::vector<std::uint8_t> special(kEnd + 1, 0);
  special.back() = 1;
  return {offsets, bytes, special, std::vector{kEnd}};
}

CompiledGrammar compile(const TokenTrie& trie, std::string_view syntax, std::string_view text) {
  if (syntax == "regex") return CompiledGrammar::of_regex(trie, text);
  if (syntax == "lark") return CompiledGrammar::of_lark(trie, text);
  return CompiledGrammar::of_json_schema(trie, syntax);
}

void follow(const CompiledGrammar& grammar, std::string_view text) {
  constexpr std::size_t kMostBytes = 200;
  GrammarMatcher matcher(grammar);
  std::vector<std::uint32_t> mask(9);
  for (const char c : text.substr(0, kMostBytes)) {
    const auto token = static_cast<std::int32_t>(static_cast<unsigned char>(c));
    matcher.allow(mask);
    const bool allowed = (mask[static_cast<std::size_t>(token) / 32] >> (token % 32) & 1) != 0;
    CORTEX_CHECK(matcher.push(token) == allowed);
    if (!allowed) continue;
    matcher.pop(1);
    CORTEX_CHECK(matcher.push(token));
    matcher.forced(4);
  }
}

}  // namespace
}  // namespace cortex

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cortex;
  static const TokenTrie trie = make_trie();
  const auto parts = parts_of<3>(text_of(data, size));
  const bool is_schema = parts[0] != "regex" && parts[0] != "lark";
  try {
    follow(compile(trie, parts[0], parts[1]), is_schema ? parts[1] : parts[2]);
  } catch (const Error& error) {
    check_reply(error);
    CORTEX_CHECK(error.code() != ErrorCode::internal_error);
  }
  return 0;
}
