#include "model/json_file.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr auto kCode = ErrorCode::invalid_config;

Fields parse(std::string_view text, int depth = kJsonDepth) { return parse_json_object(text, "c.json", kCode, depth); }

TEST(JsonFile, KeepsTypes) {
  const Fields fields = parse(R"({"i": 3, "f": 3.0, "s": "ä", "b": false, "o": {"x": {"y": 7}}, "a": [1, {"z": 1}]})");
  EXPECT_TRUE(fields.find("i")->as<std::int64_t>());
  EXPECT_TRUE(fields.find("f")->as<double>());
  EXPECT_EQ(fields.text("s"), "ä");
  EXPECT_EQ(fields.find_boolean("b"), false);
  EXPECT_EQ(fields.find_object("o")->find_object("x")->integer("y", 0, 9), 7);
}

TEST(JsonFile, ErrorsKnowTheirPath) {
  const Fields fields = parse(R"({"o": {"x": {"y": 7}}, "a": [1, {"z": 1}]})");
  expect_error(kCode, {"c.json: o.x.y: 7"}, [&] { fields.find_object("o")->find_object("x")->integer("y", 0, 6); });
  const auto& object = *fields.array("a")[1].as<Value::Object>();
  expect_error(kCode, {"c.json: a[1].z: 1"}, [&] { object->text("z"); });
}

TEST(JsonFile, PathsAreShortAndPlain) {
  const Fields controls = parse(R"({"a\u0000\n\u007f": {"x": 7}})");
  const Fields* inner = controls.find_object(std::string_view("a\0\n\x7f", 4));
  ASSERT_TRUE(inner);
  expect_error(kCode, {"c.json: a\\u0000\\n\\u007f.x: 7"}, [&] { inner->integer("x", 0, 6); });

  const std::string name(100'000, 'n');
  const Fields long_name = parse("{\"" + name + "\": {\"x\": 7}}");
  try {
    long_name.find_object(name)->integer("x", 0, 6);
    ADD_FAILURE() << "7 is out of range";
  } catch (const Error& error) {
    EXPECT_LT(error.message().size(), 400u);
    EXPECT_NE(error.message().find("n.x: 7"), std::string::npos) << error.message();
  }
}

// Each element knows its path, so a long name over many elements must not be copied for each.
TEST(JsonFile, ALongNameOverManyElementsTakesNoTime) {
  std::string text = "{\"" + std::string(4'000'000, 'n') + "\": [";
  for (int i = 0; i < 100'000; ++i) text += "{},";
  const auto start = std::chrono::steady_clock::now();
  parse(text + "{}]}");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(JsonFile, BoundsTheNumberOfValues) {
  const auto list_of = [](int count, std::string_view item) {
    std::string text = "{\"a\": [0";
    for (int i = 0; i < count; ++i) text.append(",").append(item);
    return text + "]}";
  };
  EXPECT_EQ(parse(list_of(1'000'000, "0")).array("a").size(), 1'000'001u);
  expect_error(kCode, {"c.json: ", "more JSON values than the limit of 1048576"},
               [&] { parse(list_of(1 << 20, "0")); });
  EXPECT_EQ(parse(list_of(131'000, "{}")).array("a").size(), 131'001u);
  expect_error(kCode, {"c.json: ", "more JSON objects than the limit of 131072"},
               [&] { parse(list_of(1 << 17, "{}")); });
}

TEST(JsonFile, LongIntegersBecomeFloats) {
  const Fields fields = parse(
      R"({"max": 1000000000000000019884624838656, "neg":-99999999999999999999, "last": 9223372036854775807,
          "text": "\"100000000000000000000", "fraction": 0.12345678901234567890123, "list":[100000000000000000000]})");
  EXPECT_DOUBLE_EQ(*fields.find("max")->as<double>(), 1e30);
  EXPECT_DOUBLE_EQ(*fields.find("neg")->as<double>(), -1e20);
  EXPECT_EQ(*fields.find("last")->as<std::int64_t>(), 9223372036854775807);
  EXPECT_EQ(fields.text("text"), "\"100000000000000000000");
  EXPECT_DOUBLE_EQ(*fields.find("fraction")->as<double>(), 0.12345678901234567890123);
  EXPECT_DOUBLE_EQ(*fields.array("list")[0].as<double>(), 1e20);
  expect_error(kCode, {"max: 1e+30 is not an integer"}, [&] { fields.integer("max", 0, 5); });
}

TEST(JsonFile, RefusesWhatIsNotJson) {
  for (const char* text :
       {"", "{", "{} {}", "{\"a\": NaN}", "{\"a\": 1e999}", "{\"a\": 01}", "{\"a\": \"\xFF\"}", "\xEF"}) {
    expect_error(kCode, {"c.json: is not valid JSON"}, [&] { parse(text); });
  }
  expect_error(kCode, {"c.json: an array at the top"}, [] { parse("[1]"); });
}

TEST(JsonFile, RefusesDuplicatesAtAnyDepth) {
  expect_error(kCode, {"c.json: o.a: stands twice"}, [] { parse(R"({"o": {"a": 1, "b": 2, "a": 3}})"); });
  expect_error(kCode, {"c.json: l[0].a: stands twice"}, [] { parse(R"({"l": [{"a": 1, "\u0061": 3}]})"); });
}

TEST(JsonFile, BoundsDepth) {
  const auto nested = [](int depth) {
    return "{\"a\":" + std::string(static_cast<std::size_t>(depth) - 1, '[') + "1" +
           std::string(static_cast<std::size_t>(depth) - 1, ']') + "}";
  };
  parse(nested(kJsonDepth - 1));
  parse(nested(3), 4);
  expect_error(kCode, {"nested deeper than the limit of 64"}, [&] { parse(nested(66)); });
  expect_error(kCode, {"nested deeper than the limit of 4"}, [&] { parse(nested(6), 4); });
  expect_error(kCode, {"c.json"}, [] { parse(std::string(1000000, '[')); });
}

}  // namespace
}  // namespace cortex
