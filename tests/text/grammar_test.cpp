#include "text/grammar.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/grammars.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Grammar, KeepsToARegex) {
  const CompiledGrammar date = compile(Kind::regex, "[0-9]{4}-[0-9]{2}");
  EXPECT_TRUE(accepts(date, "2026-11"));
  EXPECT_FALSE(accepts(date, "2026-1"));
  EXPECT_FALSE(accepts(date, "2026-111"));
  EXPECT_TRUE(accepts(compile(Kind::regex, "a/b|c"), "a/b"));
  EXPECT_TRUE(accepts(compile(Kind::regex, "(a+)+b"), "aaab"));
  EXPECT_THAT(failure_of(Kind::regex, "("), StartsWith("invalid_grammar: "));
  EXPECT_EQ(failure_of(Kind::regex, "(?=a)"),
            "invalid_grammar: at 1(8): invalid regex \"(?=a)\" (in regex): regex parse error: look-around, including "
            "look-ahead and look-behind, is not supported");
  EXPECT_THAT(failure_of(Kind::regex, "a(?!b)c"), StartsWith("invalid_grammar: "));
  EXPECT_THAT(failure_of(Kind::regex, ""), StartsWith("invalid_grammar: "));
  EXPECT_THAT(failure_of(Kind::regex, std::string(5 << 20, 'a')), StartsWith("invalid_grammar: "));
  EXPECT_THAT(failure_of(Kind::regex, std::string(30'000, '(')), StartsWith("invalid_grammar: "));
  EXPECT_THAT(failure_of(Kind::regex, repeat("(", 30'000) + "a" + repeat(")", 30'000)),
              StartsWith("invalid_grammar: "));
  failure_of(Kind::regex, "((a{1,1000}){1,1000}){1,1000}");
  failure_of(Kind::regex, std::string(60'000, 'a'));
}

TEST(Grammar, KeepsToLark) {
  const CompiledGrammar sum = compile(Kind::lark,
                                      "start: term (\"+\" term)*\nterm: NUMBER | \"(\" start \")\"\n"
                                      "NUMBER: /[0-9]+/\n");
  EXPECT_TRUE(accepts(sum, "1+(2+3)"));
  EXPECT_FALSE(accepts(sum, "1+(2+3"));
  EXPECT_FALSE(accepts(sum, "1++2"));
  const CompiledGrammar list = compile(Kind::lark, "start: item | start \",\" item\nitem: \"a\"\n");
  EXPECT_TRUE(accepts(list, "a,a,a"));
}

TEST(Grammar, LarkMayHaveSpecialTokensAndSchemas) {
  // The % in texts, comments and expressions begins nothing.
  const CompiledGrammar call =
      compile(Kind::lark,
              "start: \"50%json \" /[a\\/%]json/ <|call|> args // \" %json 7\nargs: %json {\n  \"type\": \"object\",\n"
              "  \"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]\n}\n# %json\n");
  GrammarMatcher matcher(call);
  for (const char c : std::string("50%json %json")) ASSERT_TRUE(matcher.push(c)) << c;
  EXPECT_THAT(allowed(&matcher, 265), testing::ElementsAre(kCall));
  EXPECT_FALSE(matcher.push('<'));
  EXPECT_TRUE(matcher.push(kCall));
  for (const char c : std::string("{ \"a\": 1}")) ASSERT_TRUE(matcher.push(c)) << c;
  EXPECT_TRUE(matcher.may_end());
  // Blanks in it are bounded, too, and what it can't keep to is refused.
  const CompiledGrammar object = compile(Kind::lark, "start: %json {\"type\": \"object\"}\n");
  EXPECT_FALSE(accepts(object, "{  }"));
  EXPECT_TRUE(accepts(object, "{ }"));
  EXPECT_THAT(failure_of(Kind::lark, "start: \"a\" b\nb: %json {\"properties\": {\"x\": {\"not\": {}}}}"),
              StartsWith("unsupported_schema: line 2: %json #/properties/x/not: "));
  EXPECT_THAT(failure_of(Kind::lark, "start: %json {\"type\": \"text\"}"), StartsWith("invalid_schema: line 1: %json"));
  EXPECT_THAT(failure_of(Kind::lark, "start: %json {\"x-guidance\": {\"lenient\": true}, \"not\": {}}"),
              StartsWith("unsupported_schema: "));
  EXPECT_THAT(failure_of(Kind::lark, "start: %json nothing"), StartsWith("invalid_grammar: line 1: %json"));
  EXPECT_THAT(failure_of(Kind::lark, "start: <|unknown|>"), HasSubstr("unknown special token"));
}

TEST(Grammar, RefusesBadLark) {
  const auto refused = [](const std::string& lark) { return failure_of(Kind::lark, lark); };
  EXPECT_THAT(refused(""), StartsWith("invalid_grammar: "));
  EXPECT_THAT(refused(" \n "), StartsWith("invalid_grammar: "));
  EXPECT_THAT(refused("start: nothing"), HasSubstr("unknown name"));
  EXPECT_THAT(refused("start: \"a\"\nb: ]"), HasSubstr("2("));
  EXPECT_THAT(refused("a: \"b\""), StartsWith("invalid_grammar: "));
  EXPECT_EQ(refused("start: start \"a\""), "invalid_grammar: no text keeps to it");
  EXPECT_THAT(refused("start: start"), StartsWith("invalid_grammar: "));
  EXPECT_THAT(refused("start: a\na: b\nb: a"), StartsWith("invalid_grammar: "));
  EXPECT_THAT(refused("start: " + std::string(30'000, '(')), StartsWith("invalid_grammar: "));
  EXPECT_THAT(refused("start: " + repeat("(", 30'000) + "\"a\"" + repeat(")", 30'000)),
              StartsWith("invalid_grammar: "));
  EXPECT_THAT(refused("start: " + repeat("~", 100'000) + "\"a\""), StartsWith("invalid_grammar: "));
  EXPECT_THAT(refused("start: \"" + std::string(5 << 20, 'a') + "\""), StartsWith("invalid_grammar: "));
  EXPECT_THAT(refused("start[max_tokens=3]: /a+/"), HasSubstr("max_tokens"));
  EXPECT_THAT(refused("start: /(?=a)b/"), StartsWith("invalid_grammar: "));
  refused("start: \"a\"{1000000000}");
  refused("start: (\"a\"{1,10000}){1,10000}");
  refused("start: a\n" + [] {
    std::string rules;
    for (int i = 0; i < 10'000; ++i)
      rules += fmt::format("a{}: \"x\" a{} | \"y\"\n", i == 0 ? "" : std::to_string(i), i + 1);
    return rules + "a10000: \"z\"\n";
  }());
}

TEST(Grammar, WorksWithARealVocabulary) {
  const auto tokenizer = llama_tokenizer();
  const TokenTable table = tokenizer->token_table();
  std::vector<std::uint8_t> special;
  for (int id = 0; id < tokenizer->vocabulary_size(); ++id) special.push_back(tokenizer->is_special(id) ? 1 : 0);
  const auto end = *tokenizer->token_id("<|im_end|>");
  const TokenTrie trie(table.offsets, table.bytes, special, std::vector{end});
  EXPECT_GT(trie.bytes(), table.bytes.size());
  const auto grammar = CompiledGrammar::of_json_schema(trie, R"({"type":"array","items":{"enum":["one","two"]}})");
  EXPECT_GT(grammar.bytes(), 0u);
  GrammarMatcher matcher(grammar);
  for (const auto id : tokenizer->encode(R"(["one", "two"])", {.add_special_tokens = false})) {
    ASSERT_TRUE(matcher.push(id));
  }
  EXPECT_TRUE(matcher.may_end());
  EXPECT_FALSE(matcher.push(*tokenizer->token_id("<|im_start|>")));
}

TEST(Grammar, RefusesTextsThatDontFitEachOther) {
  const std::vector<std::uint32_t> offsets{0, 2};
  const std::vector<std::uint8_t> one{0};
  EXPECT_THROW(TokenTrie(offsets, "a", one, {}), Error);
  EXPECT_THROW(TokenTrie(offsets, "ab", std::vector<std::uint8_t>{0, 0}, {}), Error);
  EXPECT_THROW(TokenTrie(std::vector<std::uint32_t>{0}, "", {}, {}), Error);
}

}  // namespace
}  // namespace cortex
