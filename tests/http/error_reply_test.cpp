#include "http/error_reply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "base/try_later.h"
#include "http/json_body.h"

namespace cortex {
namespace {

using testing::Contains;
using testing::Pair;

class KeptReply : public HttpReply {
 public:
  bool respond(int status, HttpHeaders headers, std::string body) override {
    told_status = status;
    told_headers = std::move(headers);
    told_body = std::move(body);
    return true;
  }
  void start_stream(int, HttpHeaders) override {}
  void write(std::string) override {}
  void end(StreamEnd) override {}
  void on_disconnect(std::function<void()>) override {}
  bool disconnected() const override { return false; }
  void note_model(const std::string&) override {}
  void note_error(ErrorCode code) override { noted = code; }

  int told_status = 0;
  std::optional<ErrorCode> noted;
  HttpHeaders told_headers;
  std::string told_body;
};

TEST(ErrorReply, EveryCodeHasItsStatus) {
  // Of section 6 of the wire contracts: OpenAI's status, the native one where it differs.
  const std::map<std::string, std::pair<int, int>> statuses = {
      {"invalid_framing", {400, 400}},
      {"invalid_header", {400, 400}},
      {"invalid_target", {400, 400}},
      {"invalid_json", {400, 400}},
      {"json_too_deep", {400, 400}},
      {"invalid_utf8", {400, 400}},
      {"duplicate_key", {400, 400}},
      {"model_not_capable", {400, 400}},
      {"empty_input", {400, 400}},
      {"request_cannot_fit", {400, 400}},
      {"missing_required_parameter", {400, 422}},
      {"invalid_type", {400, 422}},
      {"invalid_value", {400, 422}},
      {"unsupported_parameter", {400, 422}},
      {"unknown_field", {400, 422}},
      {"invalid_token_id", {400, 422}},
      {"invalid_schema", {400, 422}},
      {"unsupported_schema", {400, 422}},
      {"invalid_grammar", {400, 422}},
      {"invalid_image", {400, 422}},
      {"remote_media_disabled", {400, 422}},
      {"context_length_exceeded", {400, 413}},
      {"batch_too_large", {400, 413}},
      {"invalid_api_key", {401, 401}},
      {"insufficient_scope", {403, 403}},
      {"host_not_allowed", {403, 403}},
      {"origin_not_allowed", {403, 403}},
      {"chat_template_not_allowed", {403, 403}},
      {"not_found", {404, 404}},
      {"model_not_found", {404, 404}},
      {"conversation_not_found", {404, 404}},
      {"method_not_allowed", {405, 405}},
      {"request_timeout", {408, 408}},
      {"conversation_busy", {409, 409}},
      {"length_required", {411, 411}},
      {"request_too_large", {413, 413}},
      {"uri_too_long", {414, 414}},
      {"unsupported_media_type", {415, 415}},
      {"headers_too_large", {431, 431}},
      {"request_quarantined", {422, 422}},
      {"cancelled", {499, 499}},
      {"queue_full", {429, 429}},
      {"rate_limit_exceeded", {429, 429}},
      {"internal_error", {500, 500}},
      {"weights_io_error", {500, 500}},
      {"numerical_error", {500, 500}},
      {"model_failed", {500, 500}},
      {"not_supported", {501, 501}},
      {"unsupported_transfer_encoding", {501, 501}},
      {"http_version_unsupported", {505, 505}},
      {"model_loading", {503, 503}},
      {"draining", {503, 503}},
      {"memory_pressure", {503, 503}},
      {"thermal_throttled", {503, 503}},
      {"engine_unavailable", {503, 503}},
      {"deadline_exceeded", {504, 504}},
      {"invalid_weights", {500, 500}},
      {"invalid_config", {500, 500}},
      {"invalid_tokenizer", {500, 500}},
      {"invalid_path", {500, 500}},
      {"invalid_option", {500, 500}},
  };
  constexpr int kLast = static_cast<int>(ErrorCode::invalid_option);
  ASSERT_EQ(statuses.size(), static_cast<std::size_t>(kLast) + 1);
  for (int i = 0; i <= kLast; ++i) {
    const auto code = static_cast<ErrorCode>(i);
    const auto [openai, native] = statuses.at(std::string(name_of(code)));
    EXPECT_EQ(http_status(code, Dialect::openai), openai) << name_of(code);
    EXPECT_EQ(http_status(code, Dialect::documents), openai) << name_of(code);
    EXPECT_EQ(http_status(code, Dialect::native), native) << name_of(code);
  }
}

TEST(ErrorReply, OpenAiBody) {
  EXPECT_EQ(error_body(Error(ErrorCode::invalid_value, "n: 17", "n"), Dialect::openai, "req_1"),
            R"({"error":{"message":"n: 17","type":"invalid_request_error","param":"n","code":"invalid_value"}})");
  EXPECT_EQ(error_body(Error(ErrorCode::invalid_value, "top_n: -1", "top_n"), Dialect::documents, "req_1"),
            R"({"detail":"top_n: -1","error":{"message":"top_n: -1","type":"invalid_request_error","param":"top_n",)"
            R"("code":"invalid_value"}})");
  EXPECT_EQ(error_body(Error(ErrorCode::queue_full, "full"), Dialect::openai, "req_1"),
            R"({"error":{"message":"full","type":"rate_limit_error","param":null,"code":"queue_full"}})");
}

TEST(ErrorReply, NativeBody) {
  EXPECT_EQ(
      error_body(Error(ErrorCode::invalid_value, "bad", "inputs[3]"), Dialect::native, "req_1"),
      R"({"error":"bad","error_type":"Validation","code":"invalid_value","param":"inputs[3]","request_id":"req_1"})");
  EXPECT_EQ(error_body(Error(ErrorCode::draining, "bye"), Dialect::native, "req_1"),
            R"({"error":"bye","error_type":"Unhealthy","code":"draining","param":null,"request_id":"req_1"})");
}

std::string type_in(ErrorCode code, Dialect dialect) {
  const JsonBody body = JsonBody::parse(error_body(Error(code, "m"), dialect, "r"));
  return dialect == Dialect::native ? body.root().require("error_type").string()
                                    : body.root().require("error").require("type").string();
}

TEST(ErrorReply, Types) {
  EXPECT_EQ(type_in(ErrorCode::host_not_allowed, Dialect::openai), "permission_error");
  EXPECT_EQ(type_in(ErrorCode::engine_unavailable, Dialect::openai), "server_error");
  EXPECT_EQ(type_in(ErrorCode::http_version_unsupported, Dialect::openai), "server_error");
  EXPECT_EQ(type_in(ErrorCode::invalid_api_key, Dialect::openai), "invalid_request_error");
  EXPECT_EQ(type_in(ErrorCode::rate_limit_exceeded, Dialect::native), "Overloaded");
  EXPECT_EQ(type_in(ErrorCode::memory_pressure, Dialect::native), "Unhealthy");
  EXPECT_EQ(type_in(ErrorCode::numerical_error, Dialect::native), "Backend");
  EXPECT_EQ(type_in(ErrorCode::deadline_exceeded, Dialect::native), "Backend");
  EXPECT_EQ(type_in(ErrorCode::empty_input, Dialect::native), "Empty");
  EXPECT_EQ(type_in(ErrorCode::invalid_token_id, Dialect::native), "Tokenizer");
  EXPECT_EQ(type_in(ErrorCode::not_found, Dialect::native), "Validation");
}

HttpHeaders headers_of(ErrorCode code, std::optional<double> retry_after_s = {}) {
  return error_headers(Error(code, "m"), Dialect::native, retry_after_s);
}

TEST(ErrorReply, RetryAfterIsAnIntegerOf1To60) {
  struct Case {
    std::optional<double> delay_s;
    std::string seconds, milliseconds;
  };
  const Case cases[] = {{{}, "1", "1000"},      {0.25, "1", "250"},
                        {2.1, "3", "2100"},     {0.0, "1", "1"},
                        {-5.0, "1", "1"},       {600.0, "60", "60000"},
                        {1e300, "60", "60000"}, {std::numeric_limits<double>::quiet_NaN(), "60", "60000"}};
  for (const auto& [delay_s, seconds, milliseconds] : cases) {
    const HttpHeaders headers = headers_of(ErrorCode::queue_full, delay_s);
    EXPECT_THAT(headers, Contains(Pair("retry-after", seconds)));
    EXPECT_THAT(headers, Contains(Pair("retry-after-ms", milliseconds)));
  }
  EXPECT_THAT(headers_of(ErrorCode::conversation_busy), Contains(Pair("retry-after", "1")));
  EXPECT_THAT(headers_of(ErrorCode::memory_pressure), Contains(Pair("retry-after", "5")));
  EXPECT_THAT(headers_of(ErrorCode::thermal_throttled), Contains(Pair("retry-after", "30")));
  EXPECT_TRUE(headers_of(ErrorCode::invalid_value).empty());
  EXPECT_TRUE(headers_of(ErrorCode::internal_error).empty());
}

TEST(ErrorReply, OtherHeaders) {
  for (const auto code : {ErrorCode::numerical_error, ErrorCode::model_failed, ErrorCode::deadline_exceeded,
                          ErrorCode::not_supported, ErrorCode::http_version_unsupported}) {
    EXPECT_THAT(headers_of(code), Contains(Pair("x-should-retry", "false"))) << name_of(code);
  }
  EXPECT_THAT(headers_of(ErrorCode::invalid_api_key), Contains(Pair("www-authenticate", "Bearer")));
  EXPECT_THAT(headers_of(ErrorCode::draining), Contains(Pair("connection", "close")));
}

TEST(ErrorReply, Responds) {
  KeptReply reply;
  respond_error(reply, Error(ErrorCode::batch_too_large, "33"), Dialect::native, "req_9");
  EXPECT_EQ(reply.told_status, 413);
  EXPECT_EQ(reply.noted, ErrorCode::batch_too_large);
  EXPECT_THAT(reply.told_headers, Contains(Pair("content-type", "application/json")));
  EXPECT_NE(reply.told_body.find("req_9"), std::string::npos);
}

TEST(ErrorReply, WhatKnowsWhenItMayBeOverSaysIt) {
  const TryLater full(ErrorCode::queue_full, "full", 7.2);
  const Error& as_error = full;
  const auto headers = error_headers(as_error, Dialect::native);
  EXPECT_THAT(headers, testing::Contains(testing::Pair("retry-after", "8")));
  EXPECT_THAT(headers, testing::Contains(testing::Pair("retry-after-ms", "7200")));
  EXPECT_THAT(error_headers(TryLater(ErrorCode::queue_full, "full", 900.0), Dialect::openai),
              testing::Contains(testing::Pair("retry-after", "60")));
}

}  // namespace
}  // namespace cortex
