#include "http/json_body.h"

#include <gtest/gtest.h>

#include <functional>

namespace cortex {
namespace {

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorCode::internal_error, ""};
}

Error parse_error(const std::string& text) {
  SCOPED_TRACE(text.substr(0, 80));
  return error_of([&] { JsonBody::parse(text); });
}

std::string nested(int depth) {  // `depth` levels, the body's object being the first
  return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
}

TEST(JsonBody, RefusesWhatIsNotOneObject) {
  const std::string cases[] = {"",
                               " ",
                               "null",
                               "[]",
                               "\"x\"",
                               "1",
                               "{\"a\":1",
                               "{\"a\":",
                               "{} x",
                               "{}{}",
                               "{}\n{}",
                               "\xef\xbb\xbf{}",
                               "{\"a\":NaN}",
                               "{\"a\":Infinity}",
                               "{\"a\":1e999}",
                               "{\"a\":18446744073709551616}",
                               "{\"a\":01}",
                               "{\"a\":+1}",
                               "{\"a\":.5}",
                               "{\"a\":1.}",
                               "{'a':1}",
                               "{\"a\":1,}",
                               "{\"a\":[1,]}",
                               "{\"a\":\"\x01\"}",
                               "{\"a\":\"\\x41\"}",
                               "{\"a\":\"\\u12\"}",
                               "{\"a\":tru}",
                               "{a:1}",
                               "{\"a\":1 /* b */}",
                               std::string("{}\0", 3)};
  for (const auto& text : cases) {
    const Error error = parse_error(text);
    EXPECT_EQ(error.code(), ErrorCode::invalid_json) << text << ": " << error.message();
    EXPECT_NE(error.message().find("JSON"), std::string::npos) << error.message();
  }
}

TEST(JsonBody, TakesAnArrayWhereOneIsWanted) {
  const JsonBody body = JsonBody::parse("[1,[\"a\"]]", JsonKind::array);
  const auto items = body.root().items();
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].integer(), 1);
  EXPECT_EQ(items[1].items()[0].path(), "[1][0]");
  for (const std::string text : {"{}", "1", "\"x\"", "null", "", "[1", "[] []"}) {
    const Error error = error_of([&] { JsonBody::parse(text, JsonKind::array); });
    EXPECT_EQ(error.code(), ErrorCode::invalid_json) << text << ": " << error.message();
  }
  EXPECT_EQ(error_of([] { JsonBody::parse("{}", JsonKind::array); }).message(),
            "the body is not valid JSON: an array is wanted, not an object");
  EXPECT_EQ(error_of([] { JsonBody::parse("[{\"a\":1,\"a\":1}]", JsonKind::array); }).code(), ErrorCode::duplicate_key);
}

TEST(JsonBody, RefusesDepthOver64) {
  EXPECT_NO_THROW(JsonBody::parse(nested(64)));
  for (const auto& text :
       {nested(65), nested(66), std::string(1'000'000, '['), nested(1000), "{\"a\":" + std::string(1'000'000, '['),
        "{\"a\":" + std::string(62, '[') + "{\"b\":[]}" + std::string(62, ']') + "}"}) {
    const Error error = parse_error(text);
    EXPECT_EQ(error.code(), ErrorCode::json_too_deep);
    EXPECT_NE(error.message().find("limit 64"), std::string::npos) << error.message();
  }
}

TEST(JsonBody, RefusesWhatIsNotUtf8) {
  for (const std::string bad : {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80",
                                "\\ud800", "\\udc00", "\\ud800x", "\\ud800\\n", "\\ud800\\ud800", "\\udc00\\ud800"}) {
    for (const auto& text : {"{\"a\":\"" + bad + "\"}", "{\"" + bad + "\":1}"}) {
      const Error error = parse_error(text);
      EXPECT_EQ(error.code(), ErrorCode::invalid_utf8) << text << ": " << error.message();
      EXPECT_NE(error.message().find("UTF-8"), std::string::npos);
    }
  }
}

TEST(JsonBody, TakesEscapes) {
  const JsonBody body = JsonBody::parse(R"({"a":"\u0000\ud83d\ude00\\ud800\n"})");
  EXPECT_EQ(body.root().require("a").string(), std::string("\0\xf0\x9f\x98\x80\\ud800\n", 12));
}

TEST(JsonBody, RefusesDuplicateKeysAtAnyDepth) {
  for (const std::string text : {R"({"model":1,"b":2,"model":3})", R"({"a":[{"b":{"model":1,"model":1}}]})",
                                 R"({"model":null,"\u006dodel":1})"}) {
    const Error error = parse_error(text);
    EXPECT_EQ(error.code(), ErrorCode::duplicate_key) << text;
    EXPECT_NE(error.message().find("\"model\""), std::string::npos) << error.message();
    EXPECT_EQ(error.param(), "model");
  }
  EXPECT_NO_THROW(JsonBody::parse(R"({"a":{"b":1},"b":{"a":1},"c":[{"a":1},{"a":1}]})"));
}

TEST(JsonBody, ManyKeysAreCheckedQuickly) {
  std::string text = "{";
  for (int i = 0; i < 100'000; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  EXPECT_NO_THROW(JsonBody::parse(text + "\"last\":0}"));
  EXPECT_EQ(parse_error(text + "\"k77\":0}").code(), ErrorCode::duplicate_key);
}

TEST(JsonValue, Reads) {
  const JsonBody body = JsonBody::parse(
      R"({"s":"x","i":-9223372036854775808,"m":9223372036854775807,"d":1.5,"b":true,"n":null,"l":[1,"2",{}],"o":{"k":1}})");
  const JsonValue root = body.root();
  EXPECT_EQ(root.kind(), JsonKind::object);
  EXPECT_EQ(root.require("s").string(), "x");
  EXPECT_EQ(root.require("i").integer(), INT64_MIN);
  EXPECT_EQ(root.require("m").integer(), INT64_MAX);
  EXPECT_EQ(root.require("d").number(), 1.5);
  EXPECT_EQ(root.require("i").number(), -9223372036854775808.0);
  EXPECT_TRUE(root.require("b").boolean());
  EXPECT_FALSE(root.get("n").has_value());
  EXPECT_FALSE(root.get("absent").has_value());
  EXPECT_EQ(root.require("l").items().size(), 3u);
  EXPECT_EQ(root.require("l").items()[1].string(), "2");
  const auto members = root.require("o").members();
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(members[0].first, "k");
  EXPECT_EQ(members[0].second.integer(), 1);
  EXPECT_TRUE(root.require("s").is_scalar());
  EXPECT_FALSE(root.require("l").is_scalar());
}

TEST(JsonValue, NamesThePathOfAWrongType) {
  const JsonBody body = JsonBody::parse(
      R"({"messages":[{"role":"user"},{"x":[1,[2]],"role":7,"content":["a"]}],"n":1.5,"big":9223372036854775808,"t":"1","f":false,"one":1.0})");
  const JsonValue root = body.root();
  const JsonValue message = root.require("messages").items()[1];
  struct Case {
    std::function<void()> action;
    std::string param;
    std::string message;
  };
  const Case cases[] = {
      {[&] { message.require("role").string(); }, "messages[1].role", "a string is wanted, not the number 7"},
      {[&] { message.require("content").items()[0].integer(); }, "messages[1].content[0]", "not a string"},
      {[&] { message.require("x").items()[1].items()[0].boolean(); }, "messages[1].x[1][0]", "a boolean is wanted"},
      {[&] { message.require("content").get("a"); }, "messages[1].content", "an object is wanted, not an array"},
      {[&] { message.items(); }, "messages[1]", "an array is wanted, not an object"},
      {[&] { root.require("n").integer(); }, "n", "1.5"},
      {[&] { root.require("big").integer(); }, "big", "9223372036854775808"},
      {[&] { root.require("one").integer(); }, "one", "1.0"},
      {[&] { root.require("t").number(); }, "t", "a number is wanted, not a string"},
      {[&] { root.require("f").number(); }, "f", "not a boolean"},
      {[&] { root.require("f").integer_in(0, 1); }, "f", "not a boolean"},
  };
  for (const auto& [action, param, text] : cases) {
    const Error error = error_of(action);
    EXPECT_EQ(error.code(), ErrorCode::invalid_type);
    EXPECT_EQ(error.param(), param);
    EXPECT_NE(error.message().find(text), std::string::npos) << error.message();
    EXPECT_TRUE(error.message().starts_with(param + ": ")) << error.message();
  }
  EXPECT_EQ(root.path(), "");
}

TEST(JsonValue, ChecksRanges) {
  const JsonBody body = JsonBody::parse(R"({"n":17,"t":2.5})");
  EXPECT_EQ(body.root().require("n").integer_in(1, 17), 17);
  EXPECT_EQ(body.root().require("t").number_in(0, 2.5), 2.5);
  Error error = error_of([&] { body.root().require("n").integer_in(1, 16); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_value);
  EXPECT_EQ(error.message(), "n: 17 is out of range; the minimum is 1, the maximum is 16");
  error = error_of([&] { body.root().require("t").number_in(0, 2); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_value);
  EXPECT_EQ(error.message(), "t: 2.5 is out of range; the minimum is 0, the maximum is 2");
  EXPECT_EQ(error.param(), "t");
}

TEST(JsonValue, NamesMissingAndUnknownFields) {
  const JsonBody body = JsonBody::parse(R"({"a":null,"list":[{"known":1,"other":2}]})");
  const JsonValue item = body.root().require("list").items()[0];
  Error error = error_of([&] { body.root().require("a"); });
  EXPECT_EQ(error.code(), ErrorCode::missing_required_parameter);
  EXPECT_EQ(error.param(), "a");
  EXPECT_EQ(error_of([&] { item.require("role"); }).param(), "list[0].role");
  EXPECT_NO_THROW(item.refuse_unknown({"known", "other"}));
  error = error_of([&] { item.refuse_unknown({"known"}); });
  EXPECT_EQ(error.code(), ErrorCode::unknown_field);
  EXPECT_EQ(error.param(), "list[0].other");
}

TEST(JsonValue, WritesItselfAsText) {
  const JsonBody body = JsonBody::parse("{ \"a\" : [ 1 , 1.5, \"\\u0000\\n\\\"\xc3\xa9\" , null, true, {}, [] ] }");
  EXPECT_EQ(body.root().raw_json(), "{\"a\":[1,1.5,\"\\u0000\\n\\\"\xc3\xa9\",null,true,{},[]]}");
  EXPECT_EQ(body.root().require("a").items()[1].raw_json(), "1.5");
}

TEST(JsonValue, OutlivesAMoveOfItsBody) {
  JsonBody body = JsonBody::parse(R"({"a":{"b":"c"}})");
  const JsonValue value = body.root().require("a").require("b");
  const JsonBody moved = std::move(body);
  EXPECT_EQ(value.string(), "c");
  EXPECT_EQ(value.path(), "a.b");
}

}  // namespace
}  // namespace cortex
