#include "base/json_writer.h"

#include <gtest/gtest.h>

#include <charconv>
#include <limits>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

TEST(JsonWriter, PutsCommasWhereTheyBelong) {
  JsonWriter json;
  json.begin_object().key("a").integer(1).key("b").begin_array().string("x").null().boolean(false).end_array();
  json.key("c").begin_object().end_object().key("d").raw("[1,2]").end_object();
  EXPECT_EQ(json.text(), R"({"a":1,"b":["x",null,false],"c":{},"d":[1,2]})");
}

TEST(JsonWriter, EscapesWhatMustBeEscaped) {
  EXPECT_EQ(json_string("a\"b\\c\n\t\r\x01\x7f"), R"("a\"b\\c\n\t\r\u0001\u007f")");
  EXPECT_EQ(json_string("\xC2\x85\xE2\x80\xA8\xE2\x80\xA9"), R"("\u0085\u2028\u2029")");
  EXPECT_EQ(json_string("Größe 東京 🙂"), "\"Größe 東京 🙂\"");
  EXPECT_EQ(json_string(std::string_view("a\0b", 3)), R"("a\u0000b")");
}

TEST(JsonWriter, ReplacesBytesThatAreNotUtf8) {
  const std::string replacement = "\xEF\xBF\xBD";
  EXPECT_EQ(json_string("\xFF"), "\"" + replacement + "\"");
  EXPECT_EQ(json_string("\xC3"), "\"" + replacement + "\"");                                      // cut short
  EXPECT_EQ(json_string("\xC0\x80"), "\"" + replacement + replacement + "\"");                    // overlong
  EXPECT_EQ(json_string("\xED\xA0\x80"), "\"" + replacement + replacement + replacement + "\"");  // surrogate
  EXPECT_EQ(json_string("\xE6\x9D"
                        "a"),
            "\"" + replacement + replacement + "a\"");
}

TEST(JsonWriter, FloatsReadBackAsTheyWere) {
  for (const float value : {0.1f, -0.0f, 1e-45f, 3.4028235e38f, 1.0f / 3.0f, 123456.789f}) {
    JsonWriter json;
    json.number(value);
    float back = 0.0f;
    std::from_chars(json.text().data(), json.text().data() + json.text().size(), back);
    EXPECT_EQ(back, value) << json.text();
  }
}

TEST(JsonWriter, NumbersThatAreNotFiniteAreAnError) {
  for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    JsonWriter json;
    try {
      json.number(value);
      FAIL() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::numerical_error);
    }
  }
}

TEST(JsonWriter, WritesArraysOfNumbers) {
  JsonWriter json;
  const std::vector<float> values = {1.0f, -0.5f};
  json.numbers(values);
  EXPECT_EQ(json.text(), "[1,-0.5]");
}

}  // namespace
}  // namespace cortex
