#include "http/gate.h"

#include <gtest/gtest.h>

#include <functional>

namespace cortex {
namespace {

const std::string kHost = "Host: localhost\r\n";

RequestHead parse(const std::string& request) {
  const auto size = head_size(request, 0);
  if (!size) throw std::runtime_error("the header does not end");
  return parse_head(std::string_view(request).substr(0, *size));
}

std::string get(const std::string& target, const std::string& fields = kHost) {
  return "GET " + target + " HTTP/1.1\r\n" + fields + "\r\n";
}

std::string post(const std::string& fields) { return "POST /x HTTP/1.1\r\n" + kHost + fields + "\r\n"; }

void expect_error(const std::function<void()>& action, ErrorCode code, const std::string& text) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown; wanted " << name_of(code);
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(code)) << error.message();
    EXPECT_NE(error.message().find(text), std::string::npos) << error.message();
  }
}

TEST(Gate, CopiesWhatHandlersNeed) {
  const RequestHead head = parse(
      "POST /v1/x%20y?beta=true&a=%00 HTTP/1.1\r\nhOsT: localhost:80\r\nContent-Length:  12 \r\nCONTENT-TYPE: "
      "application/json\r\nAuthorization: Bearer k\r\nx-api-key: z\r\nOrigin: http://a\r\nX-Request-Id: a.b_C-1\r\n"
      "Expect: 100-Continue\r\nX-Other: caf\xc3\xa9\ttab\r\n\r\n");
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path, "/v1/x y");
  EXPECT_EQ(head.host, "localhost:80");
  EXPECT_EQ(head.content_length, 12u);
  EXPECT_FALSE(head.chunked);
  EXPECT_EQ(head.content_type, "application/json");
  EXPECT_EQ(head.authorization, "Bearer k");
  EXPECT_EQ(head.api_key, "z");
  EXPECT_EQ(head.origin, "http://a");
  EXPECT_EQ(head.request_id, "a.b_C-1");
  EXPECT_TRUE(head.expects_continue);
  EXPECT_TRUE(head.keep_alive);
}

TEST(Gate, FindsTheEndOfTheHeader) {
  const std::string request = get("/") + "rest";
  for (std::size_t size = 1; size < request.size() - 4; ++size) {
    EXPECT_FALSE(head_size(request.substr(0, size), size - 1).has_value()) << size;
  }
  EXPECT_EQ(head_size(request, 0), request.size() - 4);
  EXPECT_EQ(head_size(request, request.size() - 5), request.size() - 4);
  EXPECT_FALSE(head_size("", 0).has_value());
}

TEST(Gate, JudgesAsTheBytesCome) {
  expect_error([] { head_size("\x16\x03\x01", 0); }, ErrorCode::invalid_header, "header");
  expect_error([] { head_size("\r\nGET", 0); }, ErrorCode::invalid_header, "header");
  expect_error([] { head_size("GET / HTTP/1.1\n", 0); }, ErrorCode::invalid_header, "line feed");
  expect_error([] { head_size("GET / HTTP/1.1\rX", 15); }, ErrorCode::invalid_header, "carriage return");
  expect_error([] { head_size(std::string_view("GET /\0", 6), 5); }, ErrorCode::invalid_header, "NUL");
  EXPECT_FALSE(head_size("GET / HTTP/1.1\r", 0).has_value());
}

TEST(Gate, LimitsSizes) {
  const std::string fill(kHeadLimitBytes - get("/", kHost + "X: \r\n").size(), 'a');
  EXPECT_NO_THROW(parse(get("/", kHost + "X: " + fill + "\r\n")));
  expect_error([&] { parse(get("/", kHost + "X: " + fill + "a\r\n")); }, ErrorCode::headers_too_large, "limit");
  EXPECT_NO_THROW(parse(get("/" + std::string(kTargetLimitBytes - 1, 'a'))));
  expect_error([] { parse(get("/" + std::string(kTargetLimitBytes, 'a'))); }, ErrorCode::uri_too_long, "target");
  expect_error([] { parse(get("/" + std::string(20'000, 'a'))); }, ErrorCode::uri_too_long, "target");
  std::string fields;
  for (int i = 0; i < 99; ++i) fields += "X-" + std::to_string(i) + ": a\r\n";
  EXPECT_NO_THROW(parse(get("/", kHost + fields)));
  expect_error([&] { parse(get("/", kHost + fields + "Y: a\r\n")); }, ErrorCode::headers_too_large, "limit of 100");
}

TEST(Gate, RefusesAmbiguousRequests) {
  struct Case {
    std::string request;
    ErrorCode code;
    std::string text;
  };
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  const Case cases[] = {
      {post("Content-Length: 5\r\n" + chunked), ErrorCode::invalid_framing, "Transfer-Encoding"},
      {post(chunked + "Content-Length: 5\r\n"), ErrorCode::invalid_framing, "Transfer-Encoding"},
      {post("Transfer-Encoding: xchunked\r\n"), ErrorCode::unsupported_transfer_encoding, "only chunked"},
      {post("Transfer-Encoding: identity\r\n"), ErrorCode::unsupported_transfer_encoding, "only chunked"},
      {post("Transfer-Encoding: gzip, chunked\r\n"), ErrorCode::unsupported_transfer_encoding, "only chunked"},
      {post("Transfer-Encoding: chunked, chunked\r\n"), ErrorCode::unsupported_transfer_encoding, "only chunked"},
      {post("Transfer-Encoding: chunked;a=b\r\n"), ErrorCode::unsupported_transfer_encoding, "only chunked"},
      {post("Transfer-Encoding:\r\n"), ErrorCode::unsupported_transfer_encoding, "only chunked"},
      {post(chunked + "Transfer-Encoding: identity\r\n"), ErrorCode::unsupported_transfer_encoding,
       "Transfer-Encoding"},
      {post("Content-Length: 5\r\nContent-Length: 5\r\n"), ErrorCode::invalid_framing, "Content-Length"},
      {post("Content-Length: 5, 5\r\n"), ErrorCode::invalid_framing, "Content-Length"},
      {post("Content-Length: +5\r\n"), ErrorCode::invalid_framing, "Content-Length"},
      {post("Content-Length: -1\r\n"), ErrorCode::invalid_framing, "Content-Length"},
      {post("Content-Length: 0x5\r\n"), ErrorCode::invalid_framing, "Content-Length"},
      {post("Content-Length: 5 5\r\n"), ErrorCode::invalid_framing, "Content-Length"},
      {post("Content-Length: 99999999999999999999\r\n"), ErrorCode::invalid_framing, "Content-Length"},
      {post("Content-Length:\r\n"), ErrorCode::invalid_framing, "Content-Length"},
      {"POST / HTTP/1.0\r\n" + kHost + chunked + "\r\n", ErrorCode::invalid_framing, "HTTP/1.0"},
      {post("Transfer-Encoding : chunked\r\n"), ErrorCode::invalid_header, "header"},
      {post("X-A: b\r\n c\r\n"), ErrorCode::invalid_header, "folded"},
      {post("X-A: b\r\n\tTransfer-Encoding: chunked\r\n"), ErrorCode::invalid_header, "folded"},
      {post("no colon\r\n"), ErrorCode::invalid_header, "colon"},
      {post(": empty name\r\n"), ErrorCode::invalid_header, "token"},
      {post("X\x01: a\r\n"), ErrorCode::invalid_header, "token"},
      {post("X: a\x7f\r\n"), ErrorCode::invalid_header, "control"},
      {post("X: a\x1b[0m\r\n"), ErrorCode::invalid_header, "control"},
      {post("Expect: 200-ok\r\n"), ErrorCode::invalid_header, "Expect"},
      {post("Content-Type: a\r\nContent-Type: b\r\n"), ErrorCode::invalid_header, "Content-Type"},
      {post("Authorization: a\r\nAuthorization: b\r\n"), ErrorCode::invalid_header, "Authorization"},
      {get("/", ""), ErrorCode::invalid_header, "Host"},
      {get("/", kHost + "HOST: b\r\n"), ErrorCode::invalid_header, "Host"},
      {"GET / HTTP/1.2\r\n" + kHost + "\r\n", ErrorCode::http_version_unsupported, "HTTP/1.1"},
      {"GET / HTTP/01.1\r\n" + kHost + "\r\n", ErrorCode::http_version_unsupported, "HTTP/1.1"},
      {"GET /\r\n" + kHost + "\r\n", ErrorCode::http_version_unsupported, "HTTP/1.1"},
      {"GET\r\n" + kHost + "\r\n", ErrorCode::http_version_unsupported, "HTTP/1.1"},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrorCode::http_version_unsupported, "HTTP/1.1"},
      {"GE(T / HTTP/1.1\r\n" + kHost + "\r\n", ErrorCode::invalid_header, "method"},
      {"GET  / HTTP/1.1\r\n" + kHost + "\r\n", ErrorCode::invalid_target, "target"},
      {"GET / a HTTP/1.1\r\n" + kHost + "\r\n", ErrorCode::invalid_target, "target"},
  };
  for (const auto& [request, code, text] : cases) {
    SCOPED_TRACE(request);
    expect_error([&] { parse(request); }, code, text);
  }
}

TEST(Gate, RefusesOddTargets) {
  for (const std::string target :
       {"/v1/%2e%2e/etc", "/v1/../x", "/./x", "/x/..", "/x/%2E", "/a%00b", "/\x01", "/%0d%0a", "/%7f", "/%zz", "/%4",
        "/%", "http://localhost/healthz", "*", "localhost:80", "/a#b", "/\xc3\xa9", "/a?\x01"}) {
    SCOPED_TRACE(target);
    expect_error([&] { parse(get(target)); }, ErrorCode::invalid_target, "target");
  }
  EXPECT_EQ(parse(get("/%252e%252e/x")).path, "/%2e%2e/x");  // decoded once
  EXPECT_EQ(parse(get("/a..b/...")).path, "/a..b/...");
  EXPECT_EQ(parse(get("/v1/models/a%2Fb")).path, "/v1/models/a/b");
}

TEST(Gate, KnowsWhenTheConnectionStays) {
  const auto old = [](const std::string& fields) { return parse("GET / HTTP/1.0\r\n" + kHost + fields + "\r\n"); };
  EXPECT_TRUE(parse(get("/")).keep_alive);
  EXPECT_FALSE(parse(get("/", kHost + "Connection: Close\r\n")).keep_alive);
  EXPECT_FALSE(parse(get("/", kHost + "Connection: a, close\r\n")).keep_alive);
  EXPECT_FALSE(old("").keep_alive);
  EXPECT_TRUE(old("Connection: keep-alive\r\n").keep_alive);
  EXPECT_FALSE(old("Expect: 100-continue\r\n").expects_continue);
}

TEST(Gate, TakesOnlyWellFormedRequestIds) {
  const auto id = [](const std::string& fields) { return parse(get("/", kHost + fields)).request_id; };
  EXPECT_EQ(id("X-Request-Id: " + std::string(128, 'a') + "\r\n"), std::string(128, 'a'));
  EXPECT_EQ(id("X-Request-Id: " + std::string(129, 'a') + "\r\n"), "");
  EXPECT_EQ(id("X-Request-Id: caf\xc3\xa9\r\n"), "");
  EXPECT_EQ(id("X-Request-Id: a b\r\n"), "");
  EXPECT_EQ(id("X-Request-Id: a\r\nX-Request-Id: b\r\n"), "");
  EXPECT_EQ(id(""), "");
}

TEST(Gate, KnowsItsOwnHosts) {
  const std::vector<std::string> names = {"box.lan"};
  for (const char* host :
       {"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535", "box.lan:8"}) {
    EXPECT_TRUE(is_own_host(host, names)) << host;
  }
  for (const char* host : {"",
                           ":80",
                           "evil.example",
                           "localhost.evil.example",
                           "localhost:a",
                           "localhost:123456",
                           "127.0.0.2",
                           "[::1",
                           "[::2]",
                           "[::1]evil.example",
                           "[::ffff:10.0.0.1]",
                           "127.0.0.1.nip.io",
                           "0x7f000001",
                           "2130706433",
                           "0.0.0.0",
                           "[::]",
                           "box.lan.evil.example",
                           "localhost\t",
                           "fe80::1",
                           "::1",
                           "10.0.0.1",
                           "other.local",
                           "localhost:80:80",
                           "a@localhost"}) {
    EXPECT_FALSE(is_own_host(host, names)) << host;
  }
}

TEST(Gate, JudgesHostAndOrigin) {
  const auto check = [](const std::string& host, const std::string& origin, bool loopback) {
    const std::string fields = "Host: " + host + "\r\n" + (origin.empty() ? "" : "Origin: " + origin + "\r\n");
    check_host_and_origin(parse(get("/", fields)), loopback, {});
  };
  EXPECT_NO_THROW(check("localhost:1", "", true));
  EXPECT_NO_THROW(check("localhost:1", "http://localhost:3000", true));
  EXPECT_NO_THROW(check("localhost:1", "http://[::1]", true));
  EXPECT_NO_THROW(check("anything.example", "", false));
  EXPECT_NO_THROW(check("box.example", "https://box.example", false));
  expect_error([&] { check("evil.example", "", true); }, ErrorCode::host_not_allowed, "Host");
  expect_error([&] { check("", "", true); }, ErrorCode::host_not_allowed, "Host");
  for (const std::string origin : {"https://evil.example", "null", "file://", "https://localhost.evil.example"}) {
    expect_error([&] { check("localhost", origin, true); }, ErrorCode::origin_not_allowed, "Origin");
    expect_error([&] { check("box.example", origin, false); }, ErrorCode::origin_not_allowed, "Origin");
  }
  expect_error([&] { check("evil.example", "https://evil.example", true); }, ErrorCode::host_not_allowed, "Host");
}

TEST(Gate, JudgesContent) {
  const auto check = [](const std::string& fields) { check_content(parse(post(fields)), 8 << 20); };
  const std::string json = "Content-Type: application/json\r\n";
  EXPECT_NO_THROW(check(json + "Content-Length: 8388608\r\n"));
  EXPECT_NO_THROW(check(json + "Transfer-Encoding: Chunked\r\n"));
  EXPECT_NO_THROW(check("Content-Type: Application/JSON ; charset=utf-8\r\nContent-Length: 2\r\n"));
  EXPECT_NO_THROW(check_content(parse(get("/")), 0));
  expect_error([&] { check(json + "Content-Length: 8388609\r\n"); }, ErrorCode::request_too_large, "limit 8 MiB");
  expect_error([&] { check(json); }, ErrorCode::length_required, "application/json");
  for (const std::string type : {"", "Content-Type: text/plain\r\n", "Content-Type: application/jsonx\r\n"}) {
    expect_error([&] { check(type + "Content-Length: 2\r\n"); }, ErrorCode::unsupported_media_type, "application/json");
  }
  expect_error([&] { check(json + "Content-Encoding: gzip\r\nContent-Length: 2\r\n"); },
               ErrorCode::unsupported_media_type, "application/json");
  expect_error([&] { check_content(parse(get("/", kHost + "Content-Length: 11\r\n")), 10); },
               ErrorCode::request_too_large, "limit 10 bytes");
}

}  // namespace
}  // namespace cortex
