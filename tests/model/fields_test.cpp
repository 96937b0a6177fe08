#include "model/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/weight_bytes.h"

namespace cortex {
namespace {

Fields sample() {
  std::vector<Fields::Entry> entries = {{"size", {std::int64_t{64}}}, {"rate", {0.5}},  {"nan", {std::nan("")}},
                                        {"name", {std::string("x")}}, {"flag", {true}}, {"none", {}},
                                        {"list", {Value::Array{}}}};
  return Fields("config.json", "rope.", ErrorCode::invalid_config, std::move(entries));
}

TEST(Fields, ReadsWhatIsThere) {
  const Fields fields = sample();
  EXPECT_EQ(fields.integer("size", 1, 64), 64);
  EXPECT_EQ(fields.number("rate", 0, 1), 0.5f);
  EXPECT_EQ(fields.number("size", 0, 100), 64.0f);
  EXPECT_EQ(fields.text("name"), "x");
  EXPECT_EQ(fields.find_boolean("flag"), true);
  EXPECT_TRUE(fields.array("list").empty());
}

TEST(Fields, NullIsAbsent) {
  const Fields fields = sample();
  EXPECT_FALSE(fields.contains("none"));
  EXPECT_TRUE(fields.is_null("none"));
  EXPECT_FALSE(fields.is_null("missing"));
  EXPECT_EQ(fields.find_integer("none", 0, 1), std::nullopt);
  EXPECT_EQ(fields.find_text("missing"), nullptr);
  expect_error(ErrorCode::invalid_config, {"config.json: rope.none: is missing"},
               [&] { fields.integer("none", 0, 1); });
}

TEST(Fields, NamesFileFieldValueAndLimit) {
  const Fields fields = sample();
  const auto code = ErrorCode::invalid_config;
  expect_error(code, {"config.json: rope.size: 64 is not an integer from 1 to 63"},
               [&] { fields.integer("size", 1, 63); });
  expect_error(code, {"rope.size: 64", "65 to 99"}, [&] { fields.integer("size", 65, 99); });
  expect_error(code, {"rope.rate: 0.5 is not an integer"}, [&] { fields.integer("rate", 0, 1); });
  expect_error(code, {"rope.nan: nan is not a number from 0 to 1"}, [&] { fields.number("nan", 0, 1); });
  expect_error(code, {"rope.name: \"x\" is not a number"}, [&] { fields.number("name", 0, 1); });
  expect_error(code, {"rope.list: an array is not a string"}, [&] { fields.text("list"); });
  expect_error(code, {"rope.size: 64 is not true or false"}, [&] { fields.find_boolean("size"); });
  expect_error(code, {"rope.flag: true is not an object"}, [&] { fields.find_object("flag"); });
}

TEST(Fields, RefusesANameThatStandsTwice) {
  expect_error(ErrorCode::invalid_weights, {"f: a: stands twice"},
               [] { Fields("f", "", ErrorCode::invalid_weights, {{"a", {true}}, {"b", {true}}, {"a", {false}}}); });
}

TEST(Fields, MessagesCarryNoRawBytes) {
  EXPECT_EQ(describe({std::string("a\n\xFF")}), "\"a\\n\xEF\xBF\xBD\"");
  EXPECT_LT(describe({std::string(10000, 'x')}).size(), 100u);
}

}  // namespace
}  // namespace cortex
