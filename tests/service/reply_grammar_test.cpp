#include "service/reply_grammar.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "base/json_writer.h"
#include "fakes/reply_styles.h"
#include "service/served_models.h"
#include "text/grammar.h"

namespace cortex {
namespace {

constexpr TokenId kFirstSpecial = 256;
constexpr TokenId kEnd = 255;  // a byte that no UTF-8 has
constexpr const char* kSpecial[] = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]", "<|python_tag|>", "<think>", "</think>"};

// A vocabulary of bytes and some special tokens.
struct ByteVocabulary {
  ByteVocabulary() {
    for (int i = 0; i < kFirstSpecial; ++i) add(std::string(1, static_cast<char>(i)), i == kEnd);
    for (const char* text : kSpecial) add(text, true);
  }
  void add(const std::string& text, bool is_special) {
    bytes += text;
    offsets.push_back(static_cast<std::uint32_t>(bytes.size()));
    special.push_back(is_special);
  }
  TokenTrie trie() const { return {offsets, bytes, special, std::array<TokenId, 1>{kEnd}}; }

  std::vector<std::uint32_t> offsets = {0};
  std::string bytes;
  std::vector<std::uint8_t> special;
};

const TokenTrie& trie() {
  static const TokenTrie trie = ByteVocabulary().trie();
  return trie;
}

enum class Verdict { refused, begun, whole };

// Whether the text keeps to the grammar; `special` marks are single tokens.
Verdict verdict(const ReplyGrammar& grammar, const std::string& text, bool special) {
  GrammarMatcher matcher(grammar.syntax == GrammarSyntax::lark ? CompiledGrammar::of_lark(trie(), grammar.text)
                                                               : CompiledGrammar::of_json_schema(trie(), grammar.text));
  std::vector<std::uint32_t> mask(16);
  for (std::size_t at = 0; at < text.size();) {
    TokenId token = static_cast<unsigned char>(text[at]);
    std::size_t size = 1;
    for (int i = 0; special && i < 6; ++i) {
      if (!text.substr(at).starts_with(kSpecial[i])) continue;
      token = kFirstSpecial + i;
      size = std::string(kSpecial[i]).size();
    }
    matcher.allow(mask);
    if (!matcher.push(token)) return Verdict::refused;
    at += size;
  }
  return matcher.may_end() ? Verdict::whole : Verdict::begun;
}

ReplyStyle style_of(CallFormat format, bool special) {
  return style_with(format, [&](const char* text) {
    const auto found = std::find_if(std::begin(kSpecial), std::end(kSpecial),
                                    [&](const char* one) { return std::string(one) == text; });
    const auto id = kFirstSpecial + static_cast<TokenId>(found - std::begin(kSpecial));
    return StyleMark{text, special && found != std::end(kSpecial) ? std::optional(id) : std::nullopt};
  });
}

Tool tool(const std::string& name, bool strict = false) {
  return {name, "{}",
          R"({"type":"object","properties":{"x":{"type":"integer"}},"required":["x"],"additionalProperties":false})",
          strict, "tools[" + name + "]"};
}

// Calls of f and g as a format writes them.
std::string written(CallFormat format, const std::vector<std::string>& arguments) {
  std::string text;
  const std::vector<std::string> names = {"f", "g"};
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string json = fmt::format(R"({{"name": "{}", "arguments": {}}})", names[i], arguments[i]);
    switch (format) {
      case CallFormat::hermes:
        text += fmt::format("{}<tool_call>\n{}\n</tool_call>", i > 0 ? "\n" : "", json);
        break;
      case CallFormat::json:
        text += fmt::format(R"({{"name": "{}", "parameters": {}}})", names[i], arguments[i]);
        break;
      case CallFormat::mistral:
        text += (i == 0 ? "[TOOL_CALLS] [" : ", ") + json + (i + 1 == arguments.size() ? "]" : "");
        break;
      case CallFormat::mistral_named:
        text += fmt::format("[TOOL_CALLS]{}[ARGS]{}", names[i], arguments[i]);
        break;
      case CallFormat::function_gemma:
        text += fmt::format("<start_function_call>call:{}{}<end_function_call>", names[i], arguments[i]);
        break;
    }
  }
  return text;
}

constexpr CallFormat kFormats[] = {CallFormat::hermes, CallFormat::json, CallFormat::mistral, CallFormat::mistral_named,
                                   CallFormat::function_gemma};

// What the grammar lets through, the parser reads.
void expect_calls(const ReplyStyle& style, const std::string& text, std::size_t calls) {
  ReplyRules rules;
  rules.reasoning = Reasoning::may_come;
  rules.calls = CallRules{{"f", "g"}, true};
  ReplyParser parser(style, rules);
  std::size_t found = 0;
  for (const auto& pieces : {parser.push(text), parser.finish()}) {
    for (const auto& piece : pieces) found += piece.kind == PieceKind::call;
  }
  EXPECT_EQ(found, calls) << text;
}

TEST(ReplyGrammar, AFormatAloneIsPassedOnAsItIs) {
  ReplyDemands demands;
  const ReplyStyle style = style_of(CallFormat::hermes, false);
  EXPECT_FALSE(reply_grammar(style, demands));
  demands.format = OutputFormat{GrammarSyntax::json_schema, R"({"z": 1, "a": 2})", "p"};
  const auto grammar = reply_grammar(style, demands);
  ASSERT_TRUE(grammar);
  EXPECT_EQ(grammar->syntax, GrammarSyntax::json_schema);
  EXPECT_EQ(grammar->text, R"({"z": 1, "a": 2})");
}

TEST(ReplyGrammar, ToolsDemandNothingUnlessACallMustComeOrKeepToItsSchema) {
  ReplyDemands demands{Reasoning::off, {}, {tool("f")}, ToolUse::automatic, false};
  const ReplyStyle style = style_of(CallFormat::hermes, false);
  EXPECT_FALSE(reply_grammar(style, demands));
  EXPECT_FALSE(calls_are_certain(demands));
  demands.tools = {tool("f"), tool("g", true)};
  EXPECT_TRUE(reply_grammar(style, demands));
  EXPECT_TRUE(calls_are_certain(demands));
}

TEST(ReplyGrammar, AForcedCallIsWrittenAsTheModelWritesIt) {
  for (const CallFormat format : kFormats) {
    for (const bool special : {false, true}) {
      const ReplyStyle style = style_of(format, special);
      ReplyDemands demands{Reasoning::off, {}, {tool("f"), tool("g")}, ToolUse::required, false};
      const auto grammar = reply_grammar(style, demands);
      const auto holds = [&](const std::string& text) { return verdict(*grammar, text, special); };
      const std::string one = written(format, {R"({"x": 1})"});
      EXPECT_EQ(holds(one), Verdict::whole) << grammar->text << one;
      expect_calls(style, one, 1);
      EXPECT_EQ(holds(""), Verdict::begun);
      EXPECT_EQ(holds("Well"), Verdict::refused);
      EXPECT_EQ(holds(written(format, {R"({"y": 1})"})), Verdict::refused);
      EXPECT_EQ(holds(written(format, {R"({"x": "1"})"})), Verdict::refused);
      if (format == CallFormat::json) continue;
      const std::string two = written(format, {R"({"x": 1})", R"({"x": 2})"});
      EXPECT_EQ(holds(two), Verdict::whole) << grammar->text << two;
      expect_calls(style, two, 2);
      demands.one_call = true;
      EXPECT_EQ(verdict(*reply_grammar(style, demands), two, special), Verdict::refused);
    }
  }
}

TEST(ReplyGrammar, AStrictToolIsKeptToWhereItIsCalled) {
  for (const CallFormat format : kFormats) {
    for (const bool special : {false, true}) {
      const ReplyStyle style = style_of(format, special);
      const ReplyDemands demands{Reasoning::off, {}, {tool("f", true), tool("g")}, ToolUse::automatic, false};
      const auto grammar = reply_grammar(style, demands);
      const auto holds = [&](const std::string& text) { return verdict(*grammar, text, special); };
      const std::string one = written(format, {R"({"x": 1})"});
      for (const std::string text : {"Hello\nthere <tool", "a {b} [c]"}) EXPECT_EQ(holds(text), Verdict::whole) << text;
      EXPECT_EQ(holds(one), Verdict::whole) << grammar->text << one;
      EXPECT_EQ(holds(written(format, {R"({"y": 1})"})), Verdict::refused) << grammar->text;
      if (format == CallFormat::json) continue;
      EXPECT_EQ(holds("I look.\n" + one), Verdict::whole) << grammar->text;
      // The other one may have any arguments.
      EXPECT_EQ(holds(written(format, {R"({"x": 1})", R"({"y": "z"})"})), Verdict::whole) << grammar->text;
    }
  }
}

TEST(ReplyGrammar, ReasoningMayStandBefore) {
  for (const bool special : {false, true}) {
    const ReplyStyle style = style_of(CallFormat::hermes, special);
    ReplyDemands demands;
    demands.reasoning = Reasoning::may_come;
    const std::string thought = "<think>\nI {think} </b>.\n</think>\n\n";
    struct Case {
      GrammarSyntax syntax;
      const char* text;
      const char* good;
      const char* bad;
    };
    for (const Case& one : {Case{GrammarSyntax::json_schema, R"({"type":"object"})", R"({"a": 1})", "a"},
                            Case{GrammarSyntax::regex, R"([a-c]+/\/)", "abc//", "abd"},
                            Case{GrammarSyntax::regex, "a\nb\\\nc\r", "a\nb\nc\r", "ab"},
                            Case{GrammarSyntax::lark, "start: \"a\" B\nB: /b+/ // comment", "abb", "ba"}}) {
      demands.format = OutputFormat{one.syntax, one.text, "p"};
      demands.reasoning = Reasoning::may_come;
      const auto grammar = reply_grammar(style, demands);
      EXPECT_EQ(verdict(*grammar, thought + one.good, special), Verdict::whole) << grammar->text;
      EXPECT_EQ(verdict(*grammar, one.good, special), Verdict::whole) << grammar->text;
      EXPECT_EQ(verdict(*grammar, thought + one.bad, special), Verdict::refused) << grammar->text;
      EXPECT_EQ(verdict(*grammar, "<think>\nI think", special), Verdict::begun);
      demands.reasoning = Reasoning::open;
      EXPECT_EQ(verdict(*reply_grammar(style, demands), "I think</think>" + std::string(one.good), special),
                Verdict::whole);
    }
    demands = {Reasoning::may_come, {}, {tool("f")}, ToolUse::required, false};
    EXPECT_EQ(verdict(*reply_grammar(style, demands), thought + written(CallFormat::hermes, {R"({"x": 1})"}), special),
              Verdict::whole);
  }
}

TEST(ReplyGrammar, ACallOrTheFormat) {
  ReplyDemands demands{Reasoning::off,
                       OutputFormat{GrammarSyntax::json_schema, R"({"type":"object"})", "p"},
                       {tool("f")},
                       ToolUse::automatic,
                       false};
  const auto grammar = reply_grammar(style_of(CallFormat::hermes, false), demands);
  EXPECT_EQ(verdict(*grammar, R"({"a": 1})", false), Verdict::whole);
  EXPECT_EQ(verdict(*grammar, written(CallFormat::hermes, {R"({"x": 1})"}), false), Verdict::whole);
  EXPECT_EQ(verdict(*grammar, "text", false), Verdict::refused);
}

TEST(ReplyGrammar, AnErrorsLineBelongsToTheEntryBeforeIt) {
  const auto param = [](const char* message, const std::map<int, std::string>& params) {
    return with_origin(Error(ErrorCode::invalid_grammar, message), params).param();
  };
  const std::map<int, std::string> params = {{2, "a"}, {5, "b"}};
  EXPECT_EQ(param("line 2: x", params), "a");
  EXPECT_EQ(param("line 4: x", params), "a");
  EXPECT_EQ(param("line 9: x", params), "b");
  EXPECT_EQ(param("line 1: x", params), "");
  EXPECT_EQ(param("x", params), "");
  EXPECT_EQ(param("x", {{2, "a"}}), "a");
  EXPECT_EQ(param("line 3: x", {{0, "p"}}), "p");
}

TEST(ReplyGrammar, ErrorsNameWhatTheyComeFrom) {
  ReplyDemands demands{Reasoning::may_come, {}, {tool("f"), tool("g"), tool("h")}, ToolUse::required, false};
  demands.tools[2].parameters = R"({"type":"object","properties":{"a":{"not":{}}}})";
  demands.tools[2].param = "tools[2].function.parameters";
  const auto grammar = reply_grammar(style_of(CallFormat::hermes, false), demands);
  try {
    CompiledGrammar::of_lark(trie(), grammar->text);
    FAIL() << "not refused";
  } catch (const Error& refused) {
    const Error error = with_origin(refused, grammar->params);
    EXPECT_EQ(error.code(), ErrorCode::unsupported_schema);
    EXPECT_EQ(error.param(), "tools[2].function.parameters");
    EXPECT_THAT(error.message(), testing::StartsWith("tools[2].function.parameters: #/properties/a"))
        << refused.message();
  }
  const Error other(ErrorCode::queue_full, "line 1: full");
  EXPECT_EQ(with_origin(other, grammar->params).message(), "line 1: full");
}

}  // namespace
}  // namespace cortex
