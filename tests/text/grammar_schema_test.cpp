#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/grammar.h"
#include "text/grammars.h"

namespace cortex {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(GrammarSchema, KeepsToASchema) {
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

TEST(GrammarSchema, BlanksAreBounded) {
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

TEST(GrammarSchema, KeepsToTheKeywords) {
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

TEST(GrammarSchema, DatesAreThoseOfTheCalendar) {
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

TEST(GrammarSchema, FollowsReferences) {
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

TEST(GrammarSchema, TellsTheOptionsOfOneOfApart) {
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

TEST(GrammarSchema, RefusesWhatItCannotKeepTo) {
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

TEST(GrammarSchema, RefusesWhatIsNoSchema) {
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

TEST(GrammarSchema, RefusesCyclesThatLeadNowhere) {
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

TEST(GrammarSchema, HostileSchemasEndInTime) {
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

TEST(GrammarSchema, LargeSchemasEndInTime) {
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

TEST(GrammarSchema, CopiesOfDefinitionsAreBounded) {
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

TEST(GrammarSchema, LiteralsAreBounded) {
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

TEST(GrammarSchema, ChainsOfRequiredDefinitionsAreLegal) {
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

}  // namespace
}  // namespace cortex
