#include "text/grammar.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <random>

#include "base/error.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr std::int32_t kEnd = 256;
constexpr std::int32_t kCall = 257;  // <|call|>, special

// A token for each byte, one to end with, and one special; and some longer ones.
const TokenTrie& bytes_trie() {
  static const TokenTrie trie = [] {
    std::vector<std::string> texts;
    for (int byte = 0; byte < 256; ++byte) texts.emplace_back(1, static_cast<char>(byte));
    for (const char* text : {"<|end|>", "<|call|>", "\":", " \"", "tr", "true", "name", "  ", "\n\n"}) {
      texts.emplace_back(text);
    }
    std::vector<std::uint32_t> offsets{0};
    std::string bytes;
    for (const auto& text : texts) {
      bytes += text;
      offsets.push_back(static_cast<std::uint32_t>(bytes.size()));
    }
    std::vector<std::uint8_t> special(texts.size(), 0);
    special[kEnd] = special[kCall] = 1;
    return TokenTrie(offsets, bytes, special, std::vector{kEnd});
  }();
  return trie;
}

bool is_set(std::span<const std::uint32_t> mask, std::int32_t token) {
  const auto id = static_cast<std::size_t>(token);
  return (mask[id / 32] >> (id % 32) & 1) != 0;
}

std::vector<std::int32_t> allowed(GrammarMatcher* matcher, int tokens) {
  std::vector<std::uint32_t> mask(static_cast<std::size_t>(tokens + 31) / 32);
  matcher->allow(mask);
  std::vector<std::int32_t> ids;
  for (std::int32_t id = 0; id < tokens; ++id) {
    if (is_set(mask, id)) ids.push_back(id);
  }
  return ids;
}

// Byte by byte, each in the mask before it.
bool accepts(const CompiledGrammar& grammar, const std::string& text) {
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

bool accepts(const std::string& schema, const std::string& text) {
  return accepts(CompiledGrammar::of_json_schema(bytes_trie(), schema), text);
}

enum class Kind { schema, regex, lark };

CompiledGrammar compile(Kind kind, const std::string& text) {
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
double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// "code: message", within the time that a server has.
std::string failure_of(Kind kind, const std::string& text) {
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

std::string repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

TEST(Grammar, KeepsToASchema) {
  const std::string schema =
      R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150}},)"
      R"("required":["name","age"],"additionalProperties":false})";
  EXPECT_TRUE(accepts(schema, R"({"name":"Ada","age":36})"));
  EXPECT_TRUE(accepts(schema, "{\n  \"name\": \"A\\n\u00fc\",\n  \"age\": 0\n}"));
  EXPECT_FALSE(accepts(schema, R"({"name":"Ada","age":151})"));
  EXPECT_FALSE(accepts(schema, R"({"name":"Ada"})"));
  EXPECT_FALSE(accepts(schema, R"({"name":"Ada","age":1,"more":2})"));
  EXPECT_FALSE(accepts(schema, R"({"age":1,"name":"Ada"})"));  // in the schema's order
  EXPECT_FALSE(accepts(schema, R"({"name":7,"age":1})"));
}

TEST(Grammar, BlanksAreBounded) {
  const std::string schema = R"({"type":"object"})";
  EXPECT_TRUE(accepts(schema, R"({ "a": 1 , "b": [ 1, 2 ] })"));
  EXPECT_TRUE(accepts(schema, "{\n" + std::string(20, ' ') + "\"a\": 1\n}"));
  EXPECT_TRUE(accepts(schema, "{\n\t\t\"a\": 1\n}"));
  EXPECT_FALSE(accepts(schema, R"({  "a": 1})"));
  EXPECT_FALSE(accepts(schema, "{\n\n\"a\": 1}"));
  EXPECT_FALSE(accepts(schema, "{\n" + std::string(21, ' ') + "\"a\": 1}"));
  EXPECT_FALSE(accepts(schema, " {}"));
  EXPECT_FALSE(accepts(schema, "{}  "));
}

TEST(Grammar, KeepsToTheKeywords) {
  EXPECT_TRUE(accepts(R"({"enum":["red",7,null]})", R"("red")"));
  EXPECT_FALSE(accepts(R"({"enum":["red",7,null]})", R"("blue")"));
  EXPECT_TRUE(accepts(R"({"const":{"a":[1,true]}})", R"({"a":[1,true]})"));
  EXPECT_FALSE(accepts(R"({"const":{"a":[1,true]}})", R"({"a":[1]})"));
  EXPECT_TRUE(accepts(R"({"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2})", "[true,false]"));
  EXPECT_FALSE(accepts(R"({"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2})", "[]"));
  EXPECT_FALSE(accepts(R"({"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2})", "[true,true,true]"));
  EXPECT_TRUE(accepts(R"({"type":"string","pattern":"^[a-z]{3}$"})", R"("abc")"));
  EXPECT_FALSE(accepts(R"({"type":"string","pattern":"^[a-z]{3}$"})", R"("abcd")"));
  EXPECT_TRUE(accepts(R"({"type":"string","minLength":2,"maxLength":3})", "\"\u00fc\u00fc\""));
  EXPECT_FALSE(accepts(R"({"type":"string","minLength":2,"maxLength":3})", "\"\u00fc\""));
  EXPECT_TRUE(accepts(R"({"type":"number","exclusiveMinimum":0.5,"multipleOf":0.25})", "0.75"));
  EXPECT_FALSE(accepts(R"({"type":"number","exclusiveMinimum":0.5,"multipleOf":0.25})", "0.5"));
  for (const char* bounds :
       {R"("exclusiveMinimum":20,"exclusiveMaximum":20.5)", R"("exclusiveMinimum":20,"maximum":21)"}) {
    const std::string schema = fmt::format(R"({{"type":"number",{}}})", bounds);
    EXPECT_FALSE(accepts(schema, "20") || accepts(schema, "20.0") || accepts(schema, "20.000"));
    EXPECT_TRUE(accepts(schema, "20.1") && accepts(schema, "20.000001"));
  }
  EXPECT_FALSE(accepts(R"({"type":"number","minimum":-0.5,"exclusiveMaximum":0})", "-0"));
  EXPECT_FALSE(accepts(R"({"type":"number","minimum":-0.5,"exclusiveMaximum":0})", "0"));
  EXPECT_TRUE(accepts(R"({"type":"number","minimum":-0.5,"exclusiveMaximum":0})", "-0.25"));
  EXPECT_FALSE(accepts(R"({"minimum":-20.5,"exclusiveMaximum":-20})", "-20"));
  EXPECT_TRUE(accepts(R"({"minimum":-20.5,"exclusiveMaximum":-20})", "-20.5"));
  EXPECT_FALSE(accepts(R"({"type":"number","exclusiveMinimum":1,"maximum":1.5,"multipleOf":0.125})", "1"));
  EXPECT_TRUE(accepts(R"({"type":"number","exclusiveMinimum":1,"maximum":1.5,"multipleOf":0.125})", "1.125"));
  EXPECT_TRUE(accepts(R"({"type":"string","format":"uuid"})", R"("123e4567-e89b-12d3-a456-426614174000")"));
  EXPECT_FALSE(accepts(R"({"type":"string","format":"ipv4"})", R"("1.2.3.256")"));
  EXPECT_TRUE(accepts(R"({"type":"integer","format":"int32"})", "7"));  // says nothing of numbers
  EXPECT_TRUE(accepts(R"({"type":["string","null"]})", "null"));
  EXPECT_TRUE(accepts(R"({"allOf":[{"type":"integer"},{"minimum":3}]})", "3"));
  EXPECT_FALSE(accepts(R"({"allOf":[{"type":"integer"},{"minimum":3}]})", "2"));
  EXPECT_TRUE(accepts(R"({"type":"array","items":[{"type":"integer"},{"type":"string"}],"additionalItems":false})",
                      R"([1,"a"])"));
  EXPECT_FALSE(accepts(R"({"type":"array","items":[{"type":"integer"},{"type":"string"}],"additionalItems":false})",
                       R"([1,"a",2])"));
  EXPECT_TRUE(accepts("true", R"({"anything": [1, "b"]})"));
}

TEST(Grammar, DatesAreThoseOfTheCalendar) {
  const auto is_date = [](const std::string& text) {
    return accepts(R"({"type":"string","format":"date"})", "\"" + text + "\"");
  };
  for (const char* text : {"2024-02-29", "2000-02-29", "2023-02-28", "2026-12-31", "0001-01-01", "9999-11-30"}) {
    EXPECT_TRUE(is_date(text)) << text;
  }
  for (const char* text : {"2023-02-29", "1900-02-29", "2024-02-30", "2026-04-31", "0000-01-01", "2026-13-01"}) {
    EXPECT_FALSE(is_date(text)) << text;
  }
  const std::string moment = R"({"format":"date-time","type":["string","null"]})";
  EXPECT_TRUE(accepts(moment, R"("2024-02-29T23:59:59.5+01:00")"));
  EXPECT_TRUE(accepts(moment, R"("2026-06-30T23:59:00Z")"));
  EXPECT_TRUE(accepts(moment, "null"));
  EXPECT_FALSE(accepts(moment, R"("2026-06-30T23:59:60Z")"));
  EXPECT_FALSE(accepts(moment, R"("2023-02-29T00:00:00Z")"));
  EXPECT_TRUE(accepts(R"({"type":"string","format":"time"})", R"("23:59:59Z")"));
  EXPECT_FALSE(accepts(R"({"type":"string","format":"time"})", R"("23:59:60Z")"));
}

TEST(Grammar, FollowsReferences) {
  const std::string list =
      R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"value":{"type":"integer"},)"
      R"("next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["value","next"]}}})";
  EXPECT_TRUE(accepts(list, R"({"value":1,"next":{"value":2,"next":null}})"));
  EXPECT_FALSE(accepts(list, R"({"value":1,"next":{"value":2}})"));
  const std::string tree = R"({"type":"object","properties":{"children":{"type":"array","items":{"$ref":"#"}}},)"
                           R"("required":["children"],"additionalProperties":false})";
  EXPECT_TRUE(accepts(tree, R"({"children":[{"children":[]},{"children":[]}]})"));
  EXPECT_FALSE(accepts(tree, R"({"children":[1]})"));
  const std::string odd =
      R"({"$id":"https://x.org/s","properties":{"a/b":{"type":"boolean"},"c":{"$ref":"https://x.org/s#/properties/a~1b"},)"
      R"("d":{"$ref":"#word"},"e":{"$ref":"#/properties/a%7E1b"}},"required":["c","d","e"],"additionalProperties":false,)"
      R"("type":"object","$defs":{"w":{"$anchor":"word","type":"null"}}})";
  EXPECT_TRUE(accepts(odd, R"({"c":true,"d":null,"e":false})"));
  EXPECT_FALSE(accepts(odd, R"({"c":true,"d":true,"e":false})"));
}

TEST(Grammar, TellsTheOptionsOfOneOfApart) {
  const std::string pets = R"({"oneOf":[{"$ref":"#/$defs/Cat"},{"$ref":"#/$defs/Dog"}],"$defs":{)"
                           R"("Cat":{"type":"object","properties":{"kind":{"const":"cat"},"lives":{"type":"integer"}},)"
                           R"("required":["kind","lives"],"additionalProperties":false},)"
                           R"("Dog":{"type":"object","properties":{"kind":{"const":"dog"},"name":{"type":"string"}},)"
                           R"("required":["kind","name"],"additionalProperties":false}}})";
  EXPECT_TRUE(accepts(pets, R"({"kind":"dog","name":"Rex"})"));
  EXPECT_FALSE(accepts(pets, R"({"kind":"dog","lives":9})"));
  EXPECT_THAT(failure_of(Kind::schema, R"({"properties":{"a":{"oneOf":[{"type":"integer"},{"type":"number"}]}}})"),
              StartsWith("unsupported_schema: #/properties/a: the options of oneOf"));
}

TEST(Grammar, RefusesWhatItCannotKeepTo) {
  const auto refused = [](const char* schema) { return failure_of(Kind::schema, schema); };
  EXPECT_THAT(refused(R"({"not":{"type":"null"}})"), StartsWith("unsupported_schema: #/not: "));
  EXPECT_THAT(refused(R"({"properties":{"a":{"items":{"uniqueItems":true}}}})"),
              StartsWith("unsupported_schema: #/properties/a/items/uniqueItems: "));
  EXPECT_THAT(refused(R"({"if":{},"then":{}})"), StartsWith("unsupported_schema: #/if: "));
  EXPECT_THAT(refused(R"({"dependentRequired":{"a":["b"]}})"), StartsWith("unsupported_schema: #/dependentRequired"));
  EXPECT_THAT(refused(R"({"propertyNames":{"pattern":"a"}})"), StartsWith("unsupported_schema: #/propertyNames"));
  EXPECT_THAT(refused(R"({"type":"string","format":"color"})"), StartsWith("unsupported_schema: #/format: "));
  EXPECT_THAT(refused(R"({"pattern":"(?=a)b"})"), StartsWith("unsupported_schema: #/pattern: "));
  EXPECT_THAT(refused(R"({"pattern":"(a)\\1"})"), StartsWith("unsupported_schema: #/pattern: "));
  EXPECT_THAT(refused(R"({"const":9007199254740993})"), StartsWith("unsupported_schema: #/const: "));
  EXPECT_THAT(refused(R"({"minProperties":3})"), StartsWith("unsupported_schema: #/minProperties: "));
  EXPECT_THAT(refused(R"({"$ref":"https://example.org/schema"})"), StartsWith("unsupported_schema: #/$ref: "));
  EXPECT_THAT(refused(R"({"$ref":"other.json#/a"})"), StartsWith("unsupported_schema: #/$ref: "));
  EXPECT_EQ(refused(R"({"uniqueItems":false,"title":"x","x-guidance":{"lenient":true}})"), "no error");
  // What the compiler alone finds has its place, too.
  EXPECT_THAT(refused(R"({"properties":{"a":{"anyOf":[{"type":"null"},{"type":"object","minProperties":1,)"
                      R"("maxProperties":3,"properties":{"b":{},"c":{}}}]}}})"),
              StartsWith("unsupported_schema: #/properties/a/anyOf/1: "));
}

TEST(Grammar, RefusesWhatIsNoSchema) {
  const auto refused = [](const std::string& schema) { return failure_of(Kind::schema, schema); };
  EXPECT_THAT(refused(""), StartsWith("invalid_schema: not JSON: "));
  EXPECT_THAT(refused("{"), StartsWith("invalid_schema: not JSON: "));
  EXPECT_THAT(refused("7"), StartsWith("invalid_schema: #: "));
  EXPECT_THAT(refused("[]"), StartsWith("invalid_schema: #: "));
  EXPECT_EQ(
      refused(R"({"properties":{"a":{"type":"text"}}})"),
      "invalid_schema: #/properties/a/type: unknown type \"text\"; one of null, boolean, integer, number, string, "
      "array, object");
  EXPECT_THAT(refused(R"({"properties":[1]})"), StartsWith("invalid_schema: #/properties: "));
  EXPECT_THAT(refused(R"({"required":"a"})"), StartsWith("invalid_schema: #/required: "));
  EXPECT_THAT(refused(R"({"minLength":-1})"), StartsWith("invalid_schema: #/minLength: "));
  EXPECT_THAT(refused(R"({"enum":[]})"), StartsWith("invalid_schema: #/enum: "));
  EXPECT_THAT(refused(R"({"$ref":"#/$defs/none"})"), StartsWith("invalid_schema: #/$ref: "));
  EXPECT_THAT(refused("false"), StartsWith("invalid_schema: #: "));
  EXPECT_THAT(refused(R"({"type":"object","properties":{"a":{"type":"string","minLength":3,"maxLength":2}},)"
                      R"("required":["a"]})"),
              StartsWith("invalid_schema: #/properties/a: nothing satisfies it: "));
}

TEST(Grammar, RefusesCyclesThatLeadNowhere) {
  const auto refused = [](const char* schema) { return failure_of(Kind::schema, schema); };
  EXPECT_EQ(refused(R"({"$ref":"#"})"), "invalid_schema: #: a $ref leads back to itself with nothing between");
  EXPECT_THAT(refused(R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}})"),
              HasSubstr("leads back to itself"));
  EXPECT_THAT(refused(R"({"anyOf":[{"type":"null"},{"$ref":"#"}]})"), HasSubstr("leads back to itself"));
  EXPECT_THAT(refused(R"({"type":"object","properties":{"next":{"$ref":"#"}},"required":["next"]})"),
              StartsWith("invalid_schema: #: nothing of finite size"));
  EXPECT_THAT(refused(R"({"type":"array","items":{"$ref":"#"},"minItems":1})"),
              StartsWith("invalid_schema: #: nothing of finite size"));
  EXPECT_EQ(refused(R"({"type":"array","items":{"$ref":"#"}})"), "no error");
}

TEST(Grammar, HostileSchemasEndInTime) {
  const auto ends = [](const std::string& schema) { return failure_of(Kind::schema, schema); };
  const std::string open = R"({"type":"object","required":["a"],"properties":{"a":)";
  EXPECT_NE(ends(repeat(open, 1000) + "{}" + repeat("}}", 1000)), "no error");
  EXPECT_NE(ends(repeat("[", 100'000)), "no error");
  std::string values = "{\"enum\":[";
  for (int i = 0; i < 100'000; ++i) values += fmt::format("{}\"value {}\"", i == 0 ? "" : ",", i);
  EXPECT_THAT(ends(values + "]}"), StartsWith("unsupported_schema: "));
  EXPECT_EQ(ends(R"({"type":"string","pattern":"(a+)+b"})"), "no error");
  EXPECT_NE(ends(std::string(5 << 20, ' ') + "{}"), "no error");
  ends(R"({"type":"string","pattern":"((a{1,100}){1,100}){1,100}"})");
  ends(R"({"type":"string","pattern":"(x+x+)+y.*(x*)*[ab]*a[ab]{30}"})");
  ends(R"({"type":"string","minLength":100000,"maxLength":100000})");
  ends(R"({"type":"array","minItems":99999,"items":{"type":"array","minItems":99999}})");
  ends(R"({"type":"number","multipleOf":1e-300})");
  ends(R"({"type":"integer","multipleOf":9007199254740881,"minimum":1})");
  ends(R"({"type":"number","multipleOf":0.000000000000123})");
}

TEST(Grammar, LargeSchemasEndInTime) {
  const auto ends = [](const std::string& schema) { return failure_of(Kind::schema, schema); };
  std::string values = "{\"enum\":[";
  for (int i = 0; i < 10'000; ++i) values += fmt::format("{}\"value number {}\"", i == 0 ? "" : ",", i);
  EXPECT_EQ(ends(values + "]}"), "no error");
  std::string properties = R"({"type":"object","properties":{)";
  for (int i = 0; i < 1'000; ++i) properties += fmt::format("{}\"p{}\":{{\"type\":\"string\"}}", i == 0 ? "" : ",", i);
  EXPECT_EQ(ends(properties + "}}"), "no error");
  EXPECT_EQ(ends(properties + R"(},"additionalProperties":false})"), "no error");
  std::string options = R"({"oneOf":[)";
  for (int i = 0; i < 500; ++i) options += fmt::format("{}{{\"const\":{}}}", i == 0 ? "" : ",", i);
  ends(options + "]}");
  // Each of some levels twice: 2^20 paths.
  std::string deep = R"({"$ref":"#/$defs/d0","$defs":{)";
  for (int i = 0; i < 20; ++i) {
    deep += fmt::format(R"("d{0}":{{"allOf":[{{"$ref":"#/$defs/d{1}"}},{{"$ref":"#/$defs/d{1}"}}]}},)", i, i + 1);
  }
  ends(deep + R"("d20":{"type":"object","properties":{"a":{"type":"string"}}}}})");
  std::string patterns = R"({"type":"object","patternProperties":{)";
  for (int i = 0; i < 500; ++i) patterns += fmt::format("{}\"^x{}\":{{}}", i == 0 ? "" : ",", i);
  ends(patterns + "}}");
}

TEST(Grammar, CopiesOfDefinitionsAreBounded) {
  const auto ends = [](const std::string& schema) { return failure_of(Kind::schema, schema); };
  const auto copied = [](int properties, int options, const std::string& target) {
    std::string schema = R"({"type":"object","properties":{)";
    for (int i = 0; i < properties; ++i) {
      schema += fmt::format("{}\"p{}\":{{\"oneOf\":[", i == 0 ? "" : ",", i);
      for (int k = 0; k < options; ++k) schema += fmt::format("{}{{\"$ref\":\"#/$defs/t\"}}", k == 0 ? "" : ",");
      schema += "]}";
    }
    return schema + R"(},"$defs":{"t":)" + target + "}}";
  };
  std::string values = "{\"enum\":[";
  for (int i = 0; i < 90; ++i) values += fmt::format("{}\"{}{}\"", i == 0 ? "" : ",", std::string(8'000, 'a'), i);
  EXPECT_THAT(ends(copied(12, 500, values + "]}")), StartsWith("unsupported_schema: #/$defs/t: "));
  EXPECT_THAT(ends(copied(12, 500, "{\"enum\":[1,2,3,4,5,6,7,8]}")), StartsWith("unsupported_schema: #/$defs/t: "));
  EXPECT_EQ(ends(copied(12, 1, "{\"enum\":[1,2,3]}")), "no error");
  // Each level of a schema that is read again for a reference of its own.
  std::string deep = R"({"const":[)" + repeat("0,", 4'000) + "0]}";
  std::string at = "#";
  std::string references;
  for (int i = 0; i < 30; ++i) {
    deep = fmt::format(R"({{"type":"object","properties":{{"a":{}}}}})", deep);
    at += i == 0 ? "/properties/x" : "/properties/a";
    references += fmt::format(R"("r{}":{{"$ref":"{}"}},)", i, at);
  }
  EXPECT_THAT(ends(R"({"type":"object","properties":{)" + references + "\"x\":" + deep + "}}"),
              StartsWith("unsupported_schema: #/properties/"));
}

TEST(Grammar, LiteralsAreBounded) {
  const std::string text(10'100, 'a');
  const auto refused = [](const std::string& schema) { return failure_of(Kind::schema, schema); };
  EXPECT_THAT(refused(R"({"const":")" + text + "\"}"), StartsWith("unsupported_schema: #/const: "));
  EXPECT_THAT(refused(R"({"enum":[1,")" + text + "\"]}"), StartsWith("unsupported_schema: #/enum: "));
  EXPECT_THAT(refused(R"({"properties":{")" + text + "\":{}}}"), StartsWith("unsupported_schema: #/properties: "));
  EXPECT_THAT(refused(R"({"required":[")" + text + "\"]}"), StartsWith("unsupported_schema: #/required: "));
  EXPECT_THAT(failure_of(Kind::lark, "start: a\na: \"" + text + "\"\n"),
              StartsWith("invalid_grammar: line 2: a text of 10102 bytes"));
  EXPECT_EQ(refused(R"({"const":")" + std::string(9'900, 'a') + "\"}"), "no error");
}

TEST(Grammar, ChainsOfRequiredDefinitionsAreLegal) {
  std::string schema = R"({"$ref":"#/$defs/d0","$defs":{)";
  const auto chained = [](int from, int to, const std::string& last) {
    std::string all;
    for (int i = from; i != to; i += from < to ? 1 : -1) {
      all += fmt::format(R"("d{}":{{"type":"object","properties":{{"a":{{"$ref":"#/$defs/d{}"}}}},"required":["a"]}},)",
                         i, from < to ? i + 1 : i - 1);
    }
    return all + fmt::format("\"d{}\":{}", to, last);
  };
  EXPECT_EQ(failure_of(Kind::schema, schema + chained(0, 300, "{}") + "}}"), "no error");
  EXPECT_THAT(failure_of(Kind::schema, schema + chained(0, 300, "{\"$ref\":\"#/$defs/d7\"}") + "}}"),
              HasSubstr("nothing of finite size"));
  // Named from the last on.
  std::string all = "{\"allOf\":[";
  for (int i = 3'000; i >= 0; --i) all += fmt::format("{}{{\"$ref\":\"#/$defs/d{}\"}}", i == 3'000 ? "" : ",", i);
  failure_of(Kind::schema, all + R"(],"$defs":{)" + chained(0, 3'000, "{}") + "}}");
}

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

TEST(Grammar, TheMaskIsWhatMayBePushed) {
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

// However it was reached, it is where a fresh one is that was pushed the same tokens.
TEST(Grammar, PushAndPopAreExact) {
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

TEST(Grammar, EndsWhereItMayAndNothingComesBehind) {
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

TEST(Grammar, SaysWhatIsForced) {
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

TEST(Grammar, AReplyOverTheLimitEndsAlone) {
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

TEST(Grammar, RepliesDontFillOneLimitTogether) {
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

TEST(Grammar, LongCertainTextsCostNoReply) {
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

TEST(Grammar, BitsBeyondTheVocabularyAreClear) {
  const CompiledGrammar grammar = compile(Kind::regex, "(?s:.*)");
  GrammarMatcher matcher(grammar);
  std::vector<std::uint32_t> mask(20, 0xffffffff);
  EXPECT_TRUE(matcher.allow(mask));
  EXPECT_TRUE(is_set(mask, 'a'));
  EXPECT_TRUE(is_set(mask, 264));
  for (std::int32_t id = 265; id < 640; ++id) EXPECT_FALSE(is_set(mask, id)) << id;
}

TEST(Grammar, WorksWithARealVocabulary) {
  const auto tokenizer = llama_tokenizer();
  const TokenTable table = tokenizer->token_table();
  std::vector<std::uint8_t> special;
  for (int id = 0; id < tokenizer->vocabulary_size(); ++id) special.push_back(tokenizer->is_special(id) ? 1 : 0);
  const auto end = *tokenizer->token_id("<|im_end|>");
  const TokenTrie trie(table.offsets, table.bytes, special, std::vector{end});
  EXPECT_GT(trie.bytes(), 0u);
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
