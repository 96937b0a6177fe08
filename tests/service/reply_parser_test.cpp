#include "service/reply_parser.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "base/json_writer.h"
#include "fakes/reply_styles.h"
#include "fakes/test_paths.h"
#include "service/served_models.h"

namespace cortex {

// What gtest prints of a piece.
static std::ostream& operator<<(std::ostream& out, const ReplyPiece& piece) {
  constexpr const char* kNames[] = {"content", "reasoning", "call", "arguments", "call_end"};
  return out << kNames[static_cast<int>(piece.kind)] << ' ' << json_string(piece.text);
}

namespace {

ReplyPiece content(std::string text) { return {PieceKind::content, std::move(text)}; }
ReplyPiece reasoning(std::string text) { return {PieceKind::reasoning, std::move(text)}; }

ReplyPieces call(const std::string& name, const std::string& arguments) {
  return {{PieceKind::call, name}, {PieceKind::arguments, arguments}, {PieceKind::call_end, ""}};
}

ReplyPieces joined(std::vector<ReplyPieces> parts) {
  ReplyPieces all;
  for (auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

ReplyStyle style_of(CallFormat format, bool special = false) {
  ReplyStyle style =
      style_with(format, [&](const char* text) { return StyleMark{text, special ? std::optional(7) : std::nullopt}; });
  style.reasoning = ReasoningMarks{{"<think>", std::nullopt}, {"</think>", std::nullopt}};
  return style;
}

ReplyRules with_calls(bool certain = false) {
  ReplyRules rules;
  rules.calls = CallRules{{"f", "get_weather"}, certain};
  return rules;
}

void add_all(ReplyPieces* to, const ReplyPieces& pieces) {
  for (const auto& piece : pieces) add_piece(to, piece.kind, piece.text);
}

// The text is cut into pieces of these sizes, over and over.
ReplyPieces parse(const ReplyStyle& style, const ReplyRules& rules, std::string_view text,
                  const std::vector<std::size_t>& sizes) {
  ReplyParser parser(style, rules);
  ReplyPieces pieces;
  for (std::size_t i = 0; !text.empty(); ++i) {
    const auto size = std::min(sizes[i % sizes.size()], text.size());
    add_all(&pieces, parser.push(text.substr(0, size)));
    text.remove_prefix(size);
  }
  add_all(&pieces, parser.finish());
  return pieces;
}

ReplyPieces parse(const ReplyStyle& style, const ReplyRules& rules, std::string_view text) {
  const ReplyPieces whole = parse(style, rules, text, {text.size() + 1});
  EXPECT_EQ(parse(style, rules, text, {1}), whole) << text;
  return whole;
}

ReplyPieces parse(CallFormat format, std::string_view text, const ReplyRules& rules = with_calls()) {
  return parse(style_of(format), rules, text);
}

TEST(ReplyParser, PlainTextIsContentByteForByte) {
  for (const std::string text : {"", "Hello", " \n spaces \n\n", "a < b <tool", "{\"a\": 1}", "[1, 2]",
                                 "```json\n[]\n```", "[TOOL_CALL", "<think>later</think>", "東京 🙂"}) {
    for (const auto format : {CallFormat::hermes, CallFormat::json, CallFormat::mistral, CallFormat::function_gemma}) {
      ReplyPieces expected;
      add_piece(&expected, PieceKind::content, text);
      EXPECT_EQ(parse(format, text), expected) << static_cast<int>(format);
    }
  }
}

TEST(ReplyParser, HermesCallsAndTheTextAroundThem) {
  EXPECT_EQ(parse(CallFormat::hermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>"),
            call("f", "{\"x\": 1}"));
  EXPECT_EQ(parse(CallFormat::hermes,
                  "I look.\n\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\n{\"name\": "
                  "\"get_weather\", \"arguments\": {\"city\": \"a}\\\"b\"}}\n</tool_call>\n"),
            joined({{content("I look.")}, call("f", "{}"), call("get_weather", "{\"city\": \"a}\\\"b\"}")}));
  EXPECT_EQ(parse(CallFormat::hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\nDone."),
            joined({call("f", "{}"), {content("\nDone.")}}));
}

TEST(ReplyParser, ACallMaySayItInOtherWays) {
  for (const std::string json :
       {R"({"arguments": {"x": 1}, "name": "f"})", R"({"id": 7, "name": "f", "parameters": {"x": 1}, "type": null})",
        R"({"name": "f", "arguments": "{\"x\": 1}"})", R"( { "name" : "f" , "arguments" : {"x": 1} } )"}) {
    EXPECT_EQ(parse(CallFormat::hermes, "<tool_call>" + json + "</tool_call>"), call("f", "{\"x\": 1}")) << json;
  }
  EXPECT_EQ(parse(CallFormat::hermes, "<tool_call>{\"name\": \"f\"}"), call("f", "{}"));
  EXPECT_EQ(parse(CallFormat::hermes, "<tool_call>{\"name\": \"f\", \"arguments\": null}"), call("f", "{}"));
}

TEST(ReplyParser, WhatIsNoCallStaysContent) {
  for (const std::string text :
       {"<tool_call>", "<tool_call>\nnothing\n</tool_call>",
        "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {x}}</tool_call>", "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {}} and more</tool_call>", "</tool_call> <tool_call> x",
        "a <tool_call>{\"name\": 1}</tool_call> b"}) {
    EXPECT_EQ(parse(CallFormat::hermes, text), ReplyPieces{content(text)}) << text;
  }
  // What follows is looked at again.
  EXPECT_EQ(parse(CallFormat::hermes, "<tool_call><tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"),
            joined({{content("<tool_call>")}, call("f", "{}")}));
}

TEST(ReplyParser, JsonIsACallWhereItIsTheWholeReply) {
  const std::string one = R"({"name": "f", "parameters": {"x": 1}})";
  EXPECT_EQ(parse(CallFormat::json, one), call("f", "{\"x\": 1}"));
  EXPECT_EQ(parse(CallFormat::json, "\n" + one + "\n"), call("f", "{\"x\": 1}"));
  EXPECT_EQ(parse(CallFormat::json, "<|python_tag|>" + one), call("f", "{\"x\": 1}"));
  EXPECT_EQ(parse(CallFormat::json, "```json\n" + one + "\n```"), call("f", "{\"x\": 1}"));
  EXPECT_EQ(parse(CallFormat::json, "```tool_code\n[" + one + "]\n```\n"), call("f", "{\"x\": 1}"));
  EXPECT_EQ(parse(CallFormat::json, "[" + one + ", " + one + "]"),
            joined({call("f", "{\"x\": 1}"), call("f", "{\"x\": 1}")}));
  EXPECT_EQ(parse(CallFormat::json, one + "; " + one), joined({call("f", "{\"x\": 1}"), call("f", "{\"x\": 1}")}));
  for (const std::string& text :
       {one + " is what I would call", "I call " + one, one + "}", "[" + one, "[" + one + "] x"}) {
    EXPECT_EQ(parse(CallFormat::json, text), ReplyPieces{content(text)}) << text;
  }
}

TEST(ReplyParser, MistralCalls) {
  EXPECT_EQ(
      parse(
          CallFormat::mistral,
          R"([TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}, {"name": "get_weather", "arguments": {}, "id": "abcdefghi"}])"),
      joined({call("f", "{\"x\": 1}"), call("get_weather", "{}")}));
  EXPECT_EQ(
      parse(CallFormat::mistral_named, R"([TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]get_weather[CALL_ID]abc[ARGS]{})"),
      joined({call("f", "{\"x\": 1}"), call("get_weather", "{}")}));
  EXPECT_EQ(parse(CallFormat::mistral_named, R"([TOOL_CALLS]f{"x": 1})"), call("f", "{\"x\": 1}"));
  for (const std::string text : {"[TOOL_CALLS]", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}},",
                                 "[TOOL_CALLS]g[ARGS]{}", "[TOOL_CALLS]f[ARGS]{x}", "[TOOL_CALLS]f[ARGS]{"}) {
    EXPECT_EQ(parse(CallFormat::mistral, text), ReplyPieces{content(text)}) << text;
  }
}

TEST(ReplyParser, FunctionGemmaCallsBecomeJson) {
  const auto block = [](const std::string& text) { return "<start_function_call>" + text + "<end_function_call>"; };
  EXPECT_EQ(parse(CallFormat::function_gemma,
                  block("call:f{city:<escape>A, {B}<escape>,n:5,on:true,list:[1,<escape>x<escape>],in:{a:null}}")),
            call("f", R"({"city":"A, {B}","n":5,"on":true,"list":[1,"x"],"in":{"a":null}})"));
  EXPECT_EQ(parse(CallFormat::function_gemma, block("call:f{ a: <escape> x <escape> , b : [ 1 , 2 ],\n c:{ } }")),
            call("f", R"({"a":" x ","b":[1,2],"c":{}})"));
  EXPECT_EQ(parse(CallFormat::function_gemma, block("call:f{}") + block(R"(call:get_weather{"city": "B"})")),
            joined({call("f", "{}"), call("get_weather", R"({"city": "B"})")}));
  for (const std::string text : {"call:g{}", "call:f", "call:f{a}", "call:f{a:b}", "call:f{a:<escape>b}", "f{}"}) {
    EXPECT_EQ(parse(CallFormat::function_gemma, block(text)), ReplyPieces{content(block(text))}) << text;
  }
}

TEST(ReplyParser, NoSpecialTokenBecomesContent) {
  const auto shown = [](CallFormat format, const std::string& text) {
    return parse(style_of(format, true), with_calls(), text);
  };
  EXPECT_EQ(shown(CallFormat::mistral, "a [TOOL_CALLS] b [ARGS]c"), ReplyPieces{content("a  b c")});
  EXPECT_EQ(shown(CallFormat::mistral, "[TOOL_CALLS]f[ARGS]x"), ReplyPieces{content("fx")});
  EXPECT_EQ(shown(CallFormat::json, "<|python_tag|>print(1)"), ReplyPieces{content("print(1)")});
  EXPECT_EQ(shown(CallFormat::function_gemma, "<start_function_call>call:g{}<end_function_call>!"),
            ReplyPieces{content("call:g{}!")});
}

TEST(ReplyParser, ACertainCallIsToldAsItComes) {
  ReplyParser parser(style_of(CallFormat::hermes), with_calls(true));
  EXPECT_EQ(parser.push("<tool_call>\n{\"name\": \"f\", \"argum"), ReplyPieces{});
  EXPECT_EQ(parser.push("ents\": {\"x\""), (ReplyPieces{{PieceKind::call, "f"}, {PieceKind::arguments, "{\"x\""}}));
  EXPECT_EQ(parser.push(": 1"), (ReplyPieces{{PieceKind::arguments, ": 1"}}));
  // The text may be cut.
  EXPECT_EQ(parser.finish(), ReplyPieces{});
}

TEST(ReplyParser, ACertainBlockThatIsCutBeforeItsCallIsContent) {
  for (const std::string text : {"{\"answer\": \"fo", "{", "[{\"name\": \"f\"", "```json\n{\"a\": 1"}) {
    EXPECT_EQ(parse(CallFormat::json, text, with_calls(true)), ReplyPieces{content(text)}) << text;
  }
  EXPECT_EQ(parse(CallFormat::json, R"({"name": "f", "parameters": {"x")", with_calls(true)),
            (ReplyPieces{{PieceKind::call, "f"}, {PieceKind::arguments, "{\"x\""}}));
}

TEST(ReplyParser, ABlockMayEndWhereTheNextBegins) {
  const std::string open = "<tool_call>{\"name\": \"f\", \"arguments\": {}}";
  const std::string twice = open + "\n" + open + "</tool_call>", thrice = open + open + open;
  for (const bool special : {true, false}) {
    const auto read = [&](const std::string& text) {
      return parse(style_of(CallFormat::hermes, special), with_calls(), text);
    };
    EXPECT_EQ(read(twice), joined({call("f", "{}"), call("f", "{}")}));
    EXPECT_EQ(read(thrice), joined({call("f", "{}"), call("f", "{}"), call("f", "{}")}));
    EXPECT_EQ(read(open + "<tool"), call("f", "{}"));
  }
  EXPECT_EQ(parse(CallFormat::hermes, open + "<tool_call>x"), joined({call("f", "{}"), {content("<tool_call>x")}}));
  EXPECT_EQ(parse(CallFormat::hermes, open + " <table>"), ReplyPieces{content(open + " <table>")});
  // A block that fails within an opening.
  EXPECT_EQ(parse(style_of(CallFormat::mistral, true), with_calls(), "[TOOL_CALLS][TOOL_CALLS]f[ARGS]{}"),
            call("f", "{}"));
}

TEST(ReplyParser, WhiteSpaceBehindTextStaysWhereACallCameBefore) {
  const std::string block = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
  EXPECT_EQ(parse(CallFormat::hermes, block + "\nDone.\n"), joined({call("f", "{}"), {content("\nDone.\n")}}));
  EXPECT_EQ(parse(CallFormat::hermes, block + "\n"), call("f", "{}"));
}

TEST(ReplyParser, AnUncertainCallIsToldOnceItIsWhole) {
  ReplyParser parser(style_of(CallFormat::hermes), with_calls());
  EXPECT_EQ(parser.push("Well, <"), ReplyPieces{content("Well,")});
  EXPECT_EQ(parser.push("tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}"), ReplyPieces{});
  EXPECT_EQ(parser.push("</tool_call>"), call("f", "{\"x\": 1}"));
}

TEST(ReplyParser, NothingIsToldBehindTheOneCallThatIsWanted) {
  ReplyRules rules = with_calls();
  rules.one_call = true;
  const std::string block = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
  EXPECT_EQ(parse(CallFormat::hermes, "a" + block + block + "b", rules), joined({{content("a")}, call("f", "{}")}));
  EXPECT_EQ(parse(CallFormat::json, R"([{"name": "f"}, {"name": "get_weather"}])", rules), call("f", "{}"));
  ReplyParser parser(style_of(CallFormat::hermes), rules);
  parser.push(block);
  EXPECT_TRUE(parser.is_over());
}

TEST(ReplyParser, ReasoningStandsBeforeTheReply) {
  ReplyRules rules;
  rules.reasoning = Reasoning::may_come;
  const auto read = [&](std::string_view text) { return parse(style_of(CallFormat::hermes), rules, text); };
  EXPECT_EQ(read("<think>\nOne.\n\nTwo. \n</think>\n\nHi <b>"),
            (ReplyPieces{reasoning("One.\n\nTwo."), content("Hi <b>")}));
  EXPECT_EQ(read("\n<think>\n\n</think>\n\nHi"), ReplyPieces{content("Hi")});
  EXPECT_EQ(read("Hi <think>no</think>"), ReplyPieces{content("Hi <think>no</think>")});
  EXPECT_EQ(read(" <thin"), ReplyPieces{content(" <thin")});
  EXPECT_EQ(read("<think>cut </thi"), ReplyPieces{reasoning("cut </thi")});
  EXPECT_EQ(read("<think>only\n</think>\n"), ReplyPieces{reasoning("only")});
  rules.reasoning = Reasoning::open;
  EXPECT_EQ(read("\nOne </tag>.</think>Hi\n"), (ReplyPieces{reasoning("One </tag>."), content("Hi\n")}));
}

TEST(ReplyParser, SpecialMarksOfReasoningAreNoContent) {
  ReplyStyle style = style_of(CallFormat::mistral_named, true);
  style.reasoning = ReasoningMarks{{"[THINK]", 8}, {"[/THINK]", 9}};
  for (ReplyRules rules : {ReplyRules(), with_calls()}) {
    EXPECT_EQ(parse(style, rules, "[THINK]a[/THINK] b [TH"), ReplyPieces{content("a b [TH")});
    EXPECT_EQ(parse(style, rules, "[TH[THINK]INK]"), ReplyPieces{content("[THINK]")});
    rules.reasoning = Reasoning::may_come;
    EXPECT_EQ(parse(style, rules, "[THINK]a[/THINK]b[THINK]c[/THINK]"), (ReplyPieces{reasoning("a"), content("bc")}));
  }
}

TEST(ReplyParser, ACallMayFollowReasoning) {
  ReplyRules rules = with_calls();
  rules.reasoning = Reasoning::may_come;
  EXPECT_EQ(
      parse(CallFormat::hermes,
            "<think>\nI <tool_call>.\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
            rules),
      joined({{reasoning("I <tool_call>.")}, call("f", "{}")}));
}

// Texts of parts that mean something, whole and damaged, in every cut.
TEST(ReplyParser, CutsChangeNothing) {
  const std::vector<std::string> parts = {"<tool_call>",
                                          "</tool_call>",
                                          "{\"name\": \"f\", ",
                                          "\"arguments\": {\"x\": [1, \"}\"]}}",
                                          "{\"name\": \"f\"}",
                                          "[",
                                          "]",
                                          ", ",
                                          "[TOOL_CALLS]",
                                          "[ARGS]",
                                          "f",
                                          "{}",
                                          "<|python_tag|>",
                                          "```json\n",
                                          "```",
                                          "<start_function_call>",
                                          "call:f",
                                          "{a:<escape>b<escape>}",
                                          "<end_function_call>",
                                          "<think>",
                                          "</think>",
                                          "\n",
                                          " ",
                                          "text",
                                          "\"",
                                          "\\",
                                          "}",
                                          "é🙂"};
  std::mt19937 random(1);
  const auto below = [&](std::size_t most) { return std::uniform_int_distribution<std::size_t>(0, most - 1)(random); };
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (auto left = 1 + below(9); left > 0; --left) text += parts[below(parts.size())];
    const auto format = static_cast<CallFormat>(below(5));
    ReplyRules rules = with_calls(below(2) == 0);
    rules.reasoning = static_cast<Reasoning>(below(3));
    rules.one_call = below(3) == 0;
    const ReplyStyle style = style_of(format, below(2) == 0);
    const ReplyPieces whole = parse(style, rules, text, {text.size()});
    ASSERT_EQ(parse(style, rules, text, {1}), whole) << text;
    ASSERT_EQ(parse(style, rules, text, {1 + below(5), 1 + below(7), 1 + below(11)}), whole) << text;
  }
}

std::string template_of(const std::string& name) {
  std::ifstream file(test_data("templates/" + name + ".jinja"));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(ReplyStyle, IsFoundFromTheTemplate) {
  const Tokenizer& tokenizer = *tiny_models().find("chat", Task::chat).tokenizer;
  const auto style = [&](const std::string& source) { return find_reply_style(source, tokenizer); };
  for (const char* name : {"qwen2.5", "qwen3", "smollm2", "phi-3", "gemma-3"}) {
    EXPECT_EQ(style(template_of(name)).calls, CallFormat::hermes) << name;
  }
  for (const char* name : {"llama-3.1", "llama-3.2"}) {
    EXPECT_EQ(style(template_of(name)).calls, CallFormat::json) << name;
    EXPECT_TRUE(style(template_of(name)).one_call) << name;
  }
  EXPECT_EQ(style(template_of("mistral-v0.3")).calls, CallFormat::mistral);
  EXPECT_TRUE(style(template_of("mistral-v0.3")).short_call_ids);
  EXPECT_EQ(style("tools [TOOL_CALLS] [ARGS]").calls, CallFormat::mistral_named);
  EXPECT_EQ(style("tools <start_function_call>").calls, CallFormat::function_gemma);
  EXPECT_EQ(style("").calls, CallFormat::hermes);
  EXPECT_TRUE(style(template_of("qwen3")).reasoning);
  EXPECT_FALSE(style(template_of("qwen2.5")).reasoning);
  for (const char* name : {"qwen3", "smollm2", "phi-3"}) EXPECT_TRUE(style(template_of(name)).text_arguments) << name;
  for (const char* name : {"qwen2.5", "llama-3.1", "mistral-v0.3"}) {
    EXPECT_FALSE(style(template_of(name)).text_arguments) << name;
  }
}

TEST(ReplyStyle, SpecialMarksAreShownToTheReader) {
  const Tokenizer& tokenizer = *tiny_models().find("chat", Task::chat).tokenizer;
  ReplyStyle style = find_reply_style("tools [TOOL_CALLS]", tokenizer);
  EXPECT_TRUE(style.shown(true).empty());  // they are no tokens of this vocabulary
  style.openings.front().special = 1;
  EXPECT_EQ(style.shown(true), std::vector<TokenId>{1});
  EXPECT_TRUE(style.shown(false).empty());
}

}  // namespace
}  // namespace cortex
