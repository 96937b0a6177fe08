#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "text/grammar.h"
#include "text/grammars.h"

namespace cortex {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(GrammarMatcher, TheMaskIsWhatMayBePushed) {
  const CompiledGrammar grammar =
      compile(Kind::schema,
              R"({"type":"object","properties":{"name":{"type":"string","maxLength":3},"true":{"enum":[true,12]}},)"
              R"("required":["name","true"],"additionalProperties":false})");
  std::mt19937 random(7);
  for (int run = 0; run < 20; ++run) {
    GrammarMatcher matcher(grammar);
    for (int step = 0; step < 40; ++step) {
      const auto ids = allowed(&matcher, 265);
      for (std::int32_t id = -1; id < 270; ++id) {
        const bool may = id != kEnd && std::find(ids.begin(), ids.end(), id) != ids.end();
        if (id == kEnd) continue;
        ASSERT_EQ(matcher.push(id), may) << id;
        if (may) matcher.pop(1);
      }
      EXPECT_EQ(allowed(&matcher, 265), ids);
      std::vector<std::int32_t> next;
      for (const auto id : ids) {
        if (id != kEnd) next.push_back(id);
      }
      if (next.empty()) break;
      ASSERT_TRUE(matcher.push(next[random() % next.size()]));
    }
  }
}

// Bytes, and tokens made of what is a case of its own: letters, characters of several bytes and their parts, the
// beginnings and ends of tags, what JSON escapes, and texts longer than a kind of tokens has them.
std::vector<std::string> ragged_tokens() {
  const std::vector<std::string> parts = {"a",
                                          " the",
                                          "\xc3\xbf",
                                          "\xe6\x97\xa5",
                                          "\xe6",
                                          "\x97",
                                          "\xa5",
                                          "\xf0\x9f\x98\x80",
                                          "\xf0\x9f",
                                          "<",
                                          ">",
                                          "</",
                                          "think",
                                          "</think>",
                                          "]",
                                          "\"",
                                          "\\",
                                          "\n",
                                          std::string(9, 'x'),
                                          std::string(28, 'y'),
                                          "\xed\xa0",
                                          "0"};
  std::vector<std::string> texts = byte_tokens();
  std::mt19937 random(3);
  for (int i = 0; i < 400; ++i) {
    std::string text;
    for (unsigned part = 0; part <= random() % 4; ++part) text += parts[random() % parts.size()];
    texts.push_back(text);
  }
  texts.insert(texts.end(), {"the same", "the same", ""});
  return texts;
}

// Of all tokens but the one that ends.
void expect_the_mask_is_what_may_be_pushed(GrammarMatcher* matcher, const std::vector<std::string>& texts) {
  const auto tokens = static_cast<std::int32_t>(texts.size());
  const auto ids = allowed(matcher, tokens);
  for (std::int32_t id = 0; id < tokens; ++id) {
    if (id == kEnd) continue;
    const bool may = std::ranges::binary_search(ids, id);
    ASSERT_EQ(matcher->push(id), may) << id << ' ' << texts[static_cast<std::size_t>(id)];
    if (may) matcher->pop(1);
  }
}

struct Walk {
  std::string lark, text;  // that keeps to it
};

// What is known of whole kinds of tokens, and what is tried, is what may come: along a text, and away from it.
TEST(GrammarMatcher, TheMaskOfFreeTextIsWhatMayBePushed) {
  const std::vector<std::string> texts = ragged_tokens();
  const TokenTrie trie = trie_of(texts, {kEnd, kCall});
  for (const Walk& walk : {
           Walk{"start: thought \"8\"\nthought[suffix=\"</think>\"]: /(.|\\n)*/\n", "a<</think\xc3\xbf</think>8"},
           Walk{"start: thought \"8\"\nthought[suffix=\"]\"]: /(.|\\n)*/\n", "a<\xe6\x97\xa5]8"},
           Walk{"start: thought \"8\"\nthought[suffix=\"\\n\"]: /.*/\n", "a<>\"\n8"},
           Walk{"start: TEXT | lead \"8\"\nTEXT: /(.|\\n)*/ & ~/(.|\\n)*<\\/think>(.|\\n)*/\n"
                "lead[suffix=\"</think>\"]: /(.|\\n)*/\n",
                "a\xf0\x9f\x98\x80</thin</think>8"},
           Walk{"start: text \"<\" \"8\"\ntext: /[^<]*/\n", "a>\n<8"},
           Walk{"start: text <|call|> \"8\"\ntext: /(.|\\n)*/\n", "a<\xe6\x97\xa5>"},
           Walk{"start: /[^<>]{3,70}/\n", "a\xe6\x97\xa5]\"\n0000000000000000000000000000000000000000000"},
           Walk{"start: %json {\"type\":\"string\"}\n", R"("a\"<>\\\n0")"},
           Walk{"start: %json {\"type\":\"string\",\"maxLength\":40}\n",
                R"("a\"00000000000000000000000000000000000000")"},
           Walk{"start: %json {\"type\":\"string\",\"pattern\":\"^[a-z]+(x|日)*$\"}\n", "\"axx\xe6\x97\xa5x\""},
       }) {
    const CompiledGrammar grammar = CompiledGrammar::of_lark(trie, walk.lark);
    std::mt19937 random(11);
    for (std::size_t bytes = 0; bytes <= walk.text.size(); ++bytes) {
      SCOPED_TRACE(walk.lark + walk.text.substr(0, bytes));
      GrammarMatcher matcher(grammar);
      for (const char c : walk.text.substr(0, bytes)) ASSERT_TRUE(matcher.push(static_cast<unsigned char>(c)));
      for (int step = 0; step < 3; ++step) {
        ASSERT_NO_FATAL_FAILURE(expect_the_mask_is_what_may_be_pushed(&matcher, texts));
        auto next = allowed(&matcher, static_cast<std::int32_t>(texts.size()));
        std::erase(next, kEnd);
        if (next.empty() || !matcher.push(next[random() % next.size()])) break;
      }
    }
  }
}

// However it was reached, it is where a fresh one is that was pushed the same tokens.
TEST(GrammarMatcher, PushAndPopAreExact) {
  const auto grammars = {
      compile(Kind::schema, R"({"type":"object"})"),
      compile(Kind::schema, R"({"type":"array","items":{"type":"string","pattern":"^a|b+$"}})"),
      compile(Kind::lark, "start: t (\"+\" t)*\nt: /[0-9]+/ | \"(\" start \")\" | <|call|> \"x\"\n"),
      compile(Kind::lark,
              "start: text call\ntext: /[^<]*/\ncall: \"<call>\" %json {\"type\":\"object\"} \"</call>\"\n")};
  std::mt19937 random(11);
  for (const auto& grammar : grammars) {
    GrammarMatcher matcher(grammar);
    std::vector<std::int32_t> pushed;
    for (int step = 0; step < 300; ++step) {
      const int most = static_cast<int>(std::min<std::size_t>(pushed.size(), 6));
      if (most > 0 && random() % 3 == 0) {
        const int tokens = 1 + static_cast<int>(random() % static_cast<unsigned>(most));
        matcher.pop(tokens);
        pushed.resize(pushed.size() - static_cast<std::size_t>(tokens));
      } else {
        auto ids = allowed(&matcher, 265);
        std::erase(ids, kEnd);
        if (ids.empty()) continue;
        pushed.push_back(ids[random() % ids.size()]);
        ASSERT_TRUE(matcher.push(pushed.back()));
        if (random() % 2 == 0) matcher.forced(5);
      }
      GrammarMatcher fresh(grammar);
      for (const auto token : pushed) ASSERT_TRUE(fresh.push(token));
      ASSERT_EQ(matcher.may_end(), fresh.may_end());
      ASSERT_EQ(allowed(&matcher, 265), allowed(&fresh, 265));
      ASSERT_EQ(matcher.forced(9), fresh.forced(9));
    }
  }
}

TEST(GrammarMatcher, AMaskBehindWhatWasTakenBackIsItsOwn) {
  std::vector<std::string> texts = byte_tokens();
  constexpr std::int32_t kStrings = 258, kNumbers = 259, kOpenString = 260, kOpenNumber = 261;
  for (const char* text : {"{\"a\":", "{\"b\":", "[\"", "[1"}) texts.emplace_back(text);
  const TokenTrie trie = trie_of(texts, {kEnd, kCall});
  GrammarMatcher matcher(CompiledGrammar::of_json_schema(trie, R"({"anyOf":[
      {"type":"object","properties":{"a":{"type":"array","items":{"type":"string"}}},"required":["a"]},
      {"type":"object","properties":{"b":{"type":"array","items":{"type":"integer"}}},"required":["b"]}]})"));
  for (int turn = 0; turn < 2; ++turn) {
    ASSERT_TRUE(matcher.push(kStrings));
    EXPECT_THAT(allowed(&matcher, 262), testing::IsSupersetOf({kOpenString}));
    EXPECT_THAT(allowed(&matcher, 262), testing::Not(testing::Contains(kOpenNumber)));
    matcher.pop(1);
    ASSERT_TRUE(matcher.push(kNumbers));
    EXPECT_THAT(allowed(&matcher, 262), testing::IsSupersetOf({kOpenNumber}));
    EXPECT_THAT(allowed(&matcher, 262), testing::Not(testing::Contains(kOpenString)));
    matcher.pop(1);
  }
}

// Those that mean <, >, or what no text has, are no obstacle to free text of any kind.
TEST(GrammarMatcher, FreeTextOfAnyKindHasItsMasks) {
  for (const char* text : {R"(/((\p{L}|[^<>]))*(\p{L})*/)", R"(/(((\p{L}|[^<>])){0,3}|\p{L}*)/)",
                           R"(/([^a])?(\p{L})+(a)?|[^>]*/)", R"(/(\p{L}+|[^<>])*[\p{L}\p{N}]{3}/)",
                           R"(/[^<]*(\p{Lu}\p{Ll}*[^<]*){1,5}/)", R"(/(.|\n){0,2000}/)", R"(/[^<]{0,2000}/)"}) {
    SCOPED_TRACE(text);
    GrammarMatcher matcher(compile(Kind::lark, std::string("start: text <|call|> \"x\"\ntext: ") + text + "\n"));
    for (const char c : std::string("Abc def")) {
      const std::vector<std::int32_t> may_come = allowed(&matcher, 265);
      for (std::int32_t token = 0; token < 265; ++token) {
        const bool taken = matcher.push(token);
        EXPECT_EQ(taken, std::ranges::binary_search(may_come, token)) << token;
        if (taken) matcher.pop(1);
      }
      if (!matcher.push(c)) break;
    }
  }
}

TEST(GrammarMatcher, EndsWhereItMayAndNothingComesBehind) {
  const CompiledGrammar grammar = compile(Kind::regex, "ab?");
  GrammarMatcher matcher(grammar);
  EXPECT_FALSE(matcher.may_end());
  EXPECT_THAT(allowed(&matcher, 265), testing::ElementsAre('a'));
  ASSERT_TRUE(matcher.push('a'));
  EXPECT_TRUE(matcher.may_end());
  EXPECT_THAT(allowed(&matcher, 265), testing::ElementsAre('b', kEnd));
  ASSERT_TRUE(matcher.push('b'));
  EXPECT_TRUE(matcher.may_end());
  EXPECT_THAT(allowed(&matcher, 265), IsEmpty());
  EXPECT_FALSE(matcher.push('b'));
  matcher.pop(2);
  EXPECT_THAT(allowed(&matcher, 265), testing::ElementsAre('a'));
}

TEST(GrammarMatcher, SaysWhatIsForced) {
  const CompiledGrammar grammar =
      compile(Kind::schema, R"({"type":"object","properties":{"name":{"type":"boolean"}},"required":["name"]})");
  GrammarMatcher matcher(grammar);
  for (const char c : std::string("{\"")) ASSERT_TRUE(matcher.push(c));
  // The quote may be spelt as a part of ":.
  EXPECT_THAT(matcher.forced(9), testing::ElementsAre(262));
  EXPECT_THAT(matcher.forced(0), IsEmpty());
  EXPECT_TRUE(matcher.push(262));
}

// Each of its texts passes other states of the lexer, one a byte.
constexpr const char* kManyStates = "[ab]*a[ab]{18}c";

// The error that ends it, or none.
std::string push_letters(GrammarMatcher* matcher, int letters, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint32_t> mask(9);
  try {
    for (int i = 0; i < letters; ++i) {
      if (i % 16 == 0) matcher->allow(mask);
      if (!matcher->push(random() % 2 == 0 ? 'a' : 'b')) return "not taken";
    }
  } catch (const Error& error) {
    return error.message();
  }
  return "";
}

TEST(GrammarMatcher, AReplyOverTheLimitEndsAlone) {
  const CompiledGrammar grammar = compile(Kind::regex, kManyStates);
  GrammarMatcher other(grammar);
  EXPECT_EQ(push_letters(&other, 100, 1), "");
  GrammarMatcher large(grammar);
  EXPECT_THAT(push_letters(&large, 30'000, 2), HasSubstr("too many states"));
  EXPECT_THROW(large.push('a'), Error);
  EXPECT_THROW(large.may_end(), Error);
  EXPECT_EQ(push_letters(&other, 100, 3), "");
  GrammarMatcher fresh(grammar);
  EXPECT_EQ(push_letters(&fresh, 100, 4), "");
}

TEST(GrammarMatcher, RepliesDontFillOneLimitTogether) {
  const CompiledGrammar grammar = compile(Kind::regex, kManyStates);
  std::vector<GrammarMatcher> matchers;
  for (int i = 0; i < 4; ++i) matchers.emplace_back(grammar);
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(push_letters(&matchers[i], 7'000, i), "") << i;
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_EQ(push_letters(&matchers[i], 300, i + 10), "") << i;
    matchers[i].pop(100);
    EXPECT_EQ(push_letters(&matchers[i], 200, i + 20), "") << i;
  }
}

TEST(GrammarMatcher, LongCertainTextsCostNoReply) {
  std::string lark = "start: ";
  for (int i = 0; i < 7; ++i) lark += fmt::format("\"{}\" ", std::string(9'000, 'a'));
  const CompiledGrammar grammar = compile(Kind::lark, lark + "\"b\"\n");
  GrammarMatcher matcher(grammar);
  const double begin = processor_seconds();
  for (int i = 0; i < 9'000; ++i) {
    const auto forced = matcher.forced(8);
    ASSERT_LE(forced.size(), 8u);
    for (const auto token : forced) ASSERT_TRUE(matcher.push(token));
    matcher.pop(static_cast<int>(forced.size()));
    ASSERT_TRUE(matcher.push('a'));
  }
  EXPECT_LT(processor_seconds() - begin, 5.0);
  // What can't be walked at once comes step by step.
  const CompiledGrammar endless = compile(Kind::regex, std::string(30'000, 'a'));
  GrammarMatcher slow(endless);
  GrammarMatcher beside(endless);
  for (int i = 0; i < 100; ++i) {
    slow.forced(8);
    ASSERT_TRUE(slow.push('a'));
    EXPECT_THAT(allowed(&beside, 265), testing::ElementsAre('a'));
    ASSERT_TRUE(beside.push('a'));
  }
  const CompiledGrammar constant = compile(Kind::schema, R"({"const":")" + std::string(9'000, 'a') + "\"}");
  GrammarMatcher drafted(constant);
  EXPECT_EQ(drafted.forced(4).size(), 4u);
  ASSERT_TRUE(drafted.push('"'));
  EXPECT_THAT(drafted.forced(2), testing::ElementsAre('a', 'a'));
}

TEST(GrammarMatcher, BitsBeyondTheVocabularyAreClear) {
  const CompiledGrammar grammar = compile(Kind::regex, "(?s:.*)");
  GrammarMatcher matcher(grammar);
  std::vector<std::uint32_t> mask(20, 0xffffffff);
  EXPECT_TRUE(matcher.allow(mask));
  EXPECT_TRUE(is_set(mask, 'a'));
  EXPECT_TRUE(is_set(mask, 264));
  for (std::int32_t id = 265; id < 640; ++id) EXPECT_FALSE(is_set(mask, id)) << id;
}

}  // namespace
}  // namespace cortex
