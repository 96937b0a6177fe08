#include "http/listener.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <future>
#include <system_error>
#include <thread>

#include "base/channel.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "fakes/raw_client.h"
#include "http/json_body.h"
#include "http/sse.h"

namespace cortex {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

const std::string kHost = "Host: localhost\r\n";
const std::string kJson = "Content-Type: application/json\r\n";
const std::string kChunked = "Transfer-Encoding: chunked\r\n";
const std::string kHealth = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

std::string get(const std::string& target, const std::string& fields = kHost) {
  return "GET " + target + " HTTP/1.1\r\n" + fields + "\r\n";
}

std::string post(const std::string& fields, const std::string& body = "", const std::string& path = "/v1/embeddings") {
  return "POST " + path + " HTTP/1.1\r\n" + kHost + fields + "\r\n" + body;
}

std::string post_json(const std::string& path, const std::string& body, const std::string& fields = "") {
  return post(kJson + fields + "Content-Length: " + std::to_string(body.size()) + "\r\n", body, path);
}

// A server whose handlers tests drive through channels.
class Server {
 public:
  struct Held {
    HttpRequest request;
    std::shared_ptr<HttpReply> reply;
  };

  explicit Server(ListenerOptions options = {}) : pool_(2) {
    [[maybe_unused]] static const bool quiet = [] {
      start_log(LogLevel::error, "test");
      return true;
    }();
    if (!options.dispatch) options.dispatch = [this](std::function<void()> job) { pool_.submit(std::move(job)); };
    options.observe = [this](const RequestRecord& record) {
      records.send({std::string(record.route), record.status, record.seconds});
    };
    listener_.emplace(Router(routes()), std::move(options));
  }
  ~Server() { held.close(); }

  std::uint16_t port() const { return listener_->port(); }
  Listener& listener() { return *listener_; }

  Held next() {
    auto one = held.receive_for(std::chrono::seconds(10));
    if (!one) throw std::runtime_error("no request came");
    return std::move(*one);
  }

  struct Record {
    std::string route;
    int status;
    double seconds;
  };
  Channel<Held> held;
  Channel<Record> records;
  std::atomic<int> hidden_calls{0};

 private:
  static void answer(HttpReply& reply, std::string body) {
    reply.respond(200, {{"content-type", "application/json"}}, std::move(body));
  }

  std::vector<Route> routes() {
    std::vector<Route> routes;
    const auto add = [&](const char* method, const char* pattern, HttpHandler handler,
                         Dialect dialect = Dialect::native) -> Route& {
      return routes.emplace_back(Route{method, pattern, std::move(handler), dialect});
    };
    Route& health =
        add("GET", "/healthz", [](const auto&, const auto& reply) { answer(*reply, R"({"status":"ok"})"); });
    health.open = true;
    health.answers_while_draining = true;
    add("GET", "/metrics", [](const auto&, const auto& reply) { answer(*reply, "{}"); }).open_on_loopback = true;
    add(
        "POST", "/v1/embeddings",
        [](const HttpRequest& request, const auto& reply) {
          const JsonBody body = JsonBody::parse(request.body);
          answer(*reply, body.root().require("input").raw_json());
        },
        Dialect::openai);
    add("POST", "/length",
        [](const HttpRequest& request, const auto& reply) { answer(*reply, std::to_string(request.body.size())); });
    add("POST", "/admin", [](const auto&, const auto& reply) { answer(*reply, "{}"); }).admin = true;
    add("POST", "/small", [](const auto&, const auto& reply) { answer(*reply, "{}"); }).body_limit_bytes = 1024;
    add("GET", "/echo/{id}",
        [](const HttpRequest& request, const auto& reply) { answer(*reply, "\"" + request.path_id + "\""); });
    add("GET", "/who", [](const HttpRequest& request, const auto& reply) {
      answer(*reply, "\"" + request.key_id + (request.loopback ? " here" : " away") + "\"");
    });
    add("GET", "/open", [](const HttpRequest& request, const auto& reply) {
      answer(*reply, "\"" + request.key_id + "\"");
    }).open = true;
    add("GET", "/hidden", [this](const auto&, const auto& reply) {
      ++hidden_calls;
      answer(*reply, "{}");
    });
    add("GET", "/now", [](const auto&, const auto& reply) { answer(*reply, "{}"); }).at_once = true;
    add("GET", "/now/throw", [](const auto&, const auto&) {
      throw Error(ErrorCode::queue_full, "512 are waiting");
    }).at_once = true;
    add("GET", "/now/bug", [](const auto&, const auto&) { throw std::runtime_error("secret"); }).at_once = true;
    add("GET", "/now/forget", [](const auto&, const auto&) {}).at_once = true;
    add("GET", "/throw", [](const auto&, const auto&) { throw Error(ErrorCode::queue_full, "512 are waiting"); });
    add("GET", "/bug", [](const auto&, const auto&) { throw std::runtime_error("secret"); });
    add("GET", "/forget", [](const auto&, const auto&) {});
    add("GET", "/hold", [this](HttpRequest request, auto reply) { held.send({std::move(request), std::move(reply)}); });
    return routes;
  }

  ThreadPool pool_;
  std::optional<Listener> listener_;  // goes first: its handlers use the pool
};

void expect_alive(Server& server) {
  EXPECT_EQ(RawClient(server.port()).exchange(kHealth).status, 200);
  const RawReply good = RawClient(server.port()).exchange(post_json("/v1/embeddings", R"({"input":"a"})"));
  EXPECT_EQ(good.status, 200);
  EXPECT_EQ(good.body, "\"a\"");
}

struct Case {
  std::string row;
  std::string name;
  std::string request;
  int status;
  std::string code;  // empty: no error
  std::string text = {};
  std::string banned = {};
};

std::string fields(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "X-" + std::to_string(i) + ": a\r\n";
  return text;
}

const std::string kHidden = get("/hidden");

std::vector<Case> framing_cases() {
  const std::string end = "0\r\n\r\n";
  return {
      {"H1", "length_then_chunked", post("Content-Length: 5\r\n" + kChunked, end), 400, "invalid_framing",
       "Transfer-Encoding"},
      {"H1", "chunked_then_length", post(kChunked + "Content-Length: 5\r\n", end), 400, "invalid_framing",
       "Transfer-Encoding"},
      {"H2", "xchunked", post("Transfer-Encoding: xchunked\r\n", end), 501, "unsupported_transfer_encoding",
       "only chunked"},
      {"H2", "identity", post("Transfer-Encoding: identity\r\n", end), 501, "unsupported_transfer_encoding",
       "only chunked"},
      {"H2", "gzip_chunked", post("Transfer-Encoding: gzip, chunked\r\n", end), 501, "unsupported_transfer_encoding",
       "only chunked"},
      {"H2", "chunked_twice_in_list", post("Transfer-Encoding: chunked, chunked\r\n", end), 501,
       "unsupported_transfer_encoding", "only chunked"},
      {"H2", "two_encodings", post(kChunked + "Transfer-Encoding: identity\r\n", end), 501,
       "unsupported_transfer_encoding"},
      {"H3", "length_twice_equal", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400, "invalid_framing",
       "Content-Length"},
      {"H3", "length_twice_different", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400,
       "invalid_framing", "Content-Length"},
      {"H3", "length_list", post("Content-Length: 5, 5\r\n", "hello"), 400, "invalid_framing", "Content-Length"},
      {"H4", "length_plus", post("Content-Length: +5\r\n", "hello"), 400, "invalid_framing", "Content-Length"},
      {"H4", "length_negative", post("Content-Length: -1\r\n", "hello"), 400, "invalid_framing", "Content-Length"},
      {"H4", "length_hex", post("Content-Length: 0x5\r\n", "hello"), 400, "invalid_framing", "Content-Length"},
      {"H4", "length_20_digits", post("Content-Length: 99999999999999999999\r\n", "hello"), 400, "invalid_framing",
       "Content-Length"},
      {"H4", "length_empty", post("Content-Length:\r\n", "hello"), 400, "invalid_framing", "Content-Length"},
      {"H5", "space_before_colon", post("Transfer-Encoding : chunked\r\n", end), 400, "invalid_header", "header"},
      {"H5", "fold", post("X-A: b\r\n c\r\nContent-Length: 0\r\n"), 400, "invalid_header", "header"},
      {"H5", "fold_hides_encoding", post("X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), 400,
       "invalid_header", "header"},
      {"H5", "bare_lf", "POST /v1/embeddings HTTP/1.1\nHost: localhost\n\n", 400, "invalid_header", "header"},
      {"H5", "bare_cr", post("X-A: a\rb\r\nContent-Length: 0\r\n"), 400, "invalid_header", "header"},
      {"H5", "nul", post(std::string("X-A: a\0b\r\nContent-Length: 0\r\n", 28)), 400, "invalid_header", "header"},
      {"H6", "chunk_size_not_hex", post(kJson + kChunked, "zz\r\n"), 400, "invalid_framing", "chunk"},
      {"H6", "chunk_size_over_64_bit", post(kJson + kChunked, "ffffffffffffffff1\r\n"), 400, "invalid_framing",
       "chunk"},
      {"H6", "chunk_extension_257", post(kJson + kChunked, "1;" + std::string(256, 'a') + "\r\nx\r\n0\r\n\r\n"), 400,
       "invalid_framing", "chunk"},
      {"H6", "chunk_extension_20k", post(kJson + kChunked, "1;" + std::string(20'000, 'a') + "\r\nx\r\n0\r\n\r\n"), 400,
       "invalid_framing", "chunk"},
      {"H6", "chunk_before_type", post(kChunked, "zz\r\n"), 400, "invalid_framing", "chunk"},
      {"H6", "chunk_cut", post(kJson + kChunked, "5\r\nab"), 400, "invalid_framing", "chunk"},
      {"H6", "trailer_40k", post(kJson + kChunked, "2\r\n{}\r\n0\r\nX: " + std::string(40'000, 'a') + "\r\n\r\n"), 400,
       "invalid_framing", "chunk"},
      {"H6", "trailers_dropped",
       post(kJson + kChunked, "2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\nX-Request-Id: from-trailer\r\n\r\n"), 400,
       "missing_required_parameter", "input", "from-trailer"},
  };
}

std::vector<Case> header_cases() {
  return {
      {"-", "control", kHealth, 200, ""},
      {"H7", "header_20k", post("X-A: " + std::string(20'000, 'a') + "\r\n"), 431, "headers_too_large", "limit"},
      {"H7", "fields_101", post(fields(101)), 431, "headers_too_large", "limit"},
      {"H8", "no_host", get("/healthz", ""), 400, "invalid_header", "Host"},
      {"H8", "two_hosts", get("/healthz", kHost + "Host: b\r\n"), 400, "invalid_header", "Host"},
      {"H8", "foreign_host", get("/v1/models", "Host: evil.example\r\n"), 403, "host_not_allowed", "Host"},
      {"H9", "foreign_origin", post("Origin: https://evil.example\r\nContent-Length: 0\r\n"), 403, "origin_not_allowed",
       "Origin"},
      {"H9", "preflight", "OPTIONS /v1/embeddings HTTP/1.1\r\n" + kHost + "Origin: https://evil.example\r\n\r\n", 403,
       "origin_not_allowed", "Origin", "access-control"},
      {"H10", "length_over_limit", post(kJson + "Content-Length: 2000000000\r\n"), 413, "request_too_large",
       "limit 8 MiB"},
      {"H10", "chunk_over_limit", post(kJson + kChunked, "77359400\r\n"), 413, "request_too_large", "limit 8 MiB"},
      {"H10", "chunks_over_limit", post(kJson + kChunked, "3ff\r\n" + std::string(1023, ' ') + "\r\n2\r\n{}", "/small"),
       413, "request_too_large", "limit 1024 bytes"},
      {"H11", "no_length", post(kJson), 411, "length_required"},
      {"H11", "wrong_type", post("Content-Type: text/plain\r\nContent-Length: 2\r\n", "{}"), 415,
       "unsupported_media_type", "application/json"},
      {"H11", "gzip", post(kJson + "Content-Encoding: gzip\r\nContent-Length: 2\r\n", "{}"), 415,
       "unsupported_media_type", "application/json"},
      {"H11", "expect_oversize", post(kJson + "Expect: 100-continue\r\nContent-Length: 2000000000\r\n"), 413,
       "request_too_large", "limit", "100 Continue"},
      {"H12", "http_0_9", "GET /healthz\r\n", 400, "invalid_header"},
      {"H12", "http_1_2", "GET /healthz HTTP/1.2\r\n" + kHost + "\r\n", 505, "http_version_unsupported", "HTTP/1.1"},
      {"H12", "h2_preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version_unsupported", "HTTP/1.1"},
      {"H12", "tls_hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + std::string(32, '\0'), 400,
       "invalid_header"},
      {"H13", "dot_segments", get("/v1/%2e%2e/%2e%2e/etc/passwd"), 400, "invalid_target", "target"},
      {"H13", "nul", get("/a%00b"), 400, "invalid_target", "target"},
      {"H13", "control_byte", get("/\x01"), 400, "invalid_target", "target"},
      {"H13", "9k", get("/" + std::string(9000, 'a')), 414, "uri_too_long", "target"},
      {"H13", "absolute", get("http://localhost/healthz"), 400, "invalid_target", "target"},
      {"H13", "star", "OPTIONS * HTTP/1.1\r\n" + kHost + "\r\n", 400, "invalid_target", "target"},
      {"H14", "unknown_route", get("/nope"), 404, "not_found", "route"},
      {"H14", "wrong_method", "DELETE /healthz HTTP/1.1\r\n" + kHost + "\r\n", 405, "method_not_allowed", "route"},
      {"H14", "unknown_method", "BREW /healthz HTTP/1.1\r\n" + kHost + "\r\n", 405, "method_not_allowed", "route"},
      {"H16", "hidden_request",
       get("/healthz", kHost + "Content-Length: " + std::to_string(kHidden.size()) + "\r\n") + kHidden, 200, ""},
      {"H17", "two_authorizations", post("Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 0\r\n"),
       400, "invalid_header"},
      {"H18", "request_id_5k", get("/healthz", kHost + "X-Request-Id: " + std::string(5000, 'a') + "\r\n"), 200, "", "",
       std::string(129, 'a')},
      {"H18", "request_id_not_ascii", get("/healthz", kHost + "X-Request-Id: \xc3\xa9\r\n"), 200, "", "", "\xc3\xa9"},
      {"H19", "traceparent", get("/healthz", kHost + "traceparent: ff-0-0-zz\r\n"), 200, ""},
      {"J1", "not_json", post_json("/v1/embeddings", "nope"), 400, "invalid_json", "JSON"},
      {"J4", "duplicate_key", post_json("/v1/embeddings", R"({"input":1,"input":2})"), 400, "duplicate_key", "input"},
  };
}

void check_case(Server& server, const Case& one) {
  SCOPED_TRACE(one.row + " " + one.name);
  RawClient client(server.port());
  client.send(one.request);
  client.finish_sending();
  const RawReply reply = client.read_reply();
  EXPECT_EQ(reply.status, one.status) << reply.body;
  EXPECT_TRUE(reply.complete);
  EXPECT_TRUE(reply.headers.count("x-request-id"));
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  EXPECT_NO_THROW(JsonBody::parse(reply.body)) << reply.body;
  if (!one.code.empty()) {
    EXPECT_THAT(reply.body, HasSubstr(fmt::format(R"("code":"{}")", one.code)));
  }
  EXPECT_THAT(reply.body, HasSubstr(one.text));
  std::string all = reply.body + client.read_all();
  for (const auto& [name, value] : reply.headers) all += fmt::format("{}: {}\n", name, value);
  if (!one.banned.empty()) {
    EXPECT_EQ(all.find(one.banned), std::string::npos) << all;
  }
  EXPECT_EQ(all.find("HTTP/1."), all.find("HTTP/1.1 and HTTP/1.0")) << "more than one answer: " << all;
  expect_alive(server);
}

TEST(Listener, AnswersBadFraming) {
  Server server;
  for (const Case& one : framing_cases()) check_case(server, one);
  EXPECT_EQ(server.hidden_calls, 0);
}

TEST(Listener, AnswersBadHeaders) {
  Server server;
  for (const Case& one : header_cases()) check_case(server, one);
  EXPECT_EQ(server.hidden_calls, 0);
}

TEST(Listener, ClosesAfterARefusal) {
  Server server;
  for (const Case& one : framing_cases()) {
    if (one.name == "trailers_dropped") continue;  // refused by its handler, behind the gate
    SCOPED_TRACE(one.name);
    RawClient client(server.port());
    client.send(one.request);
    if (one.name == "chunk_cut") client.finish_sending();
    const RawReply reply = client.read_reply();
    EXPECT_EQ(reply.headers.at("connection"), "close");
    EXPECT_TRUE(client.at_end());
  }
}

TEST(Listener, SpeaksTheRoutesDialect) {
  Server server;
  EXPECT_THAT(RawClient(server.port()).exchange(post("Content-Length: 0\r\n")).body, HasSubstr("\"type\""));
  EXPECT_THAT(RawClient(server.port()).exchange(get("/v1/nope")).body, HasSubstr("\"type\""));
  EXPECT_THAT(RawClient(server.port()).exchange(get("/nope")).body, HasSubstr("\"request_id\":\"req_"));
}

TEST(Listener, MethodsOfARoute) {
  Server server;
  RawClient client(server.port());
  const RawReply head = client.exchange("HEAD /healthz HTTP/1.1\r\n" + kHost + "\r\n", true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), "15");
  const RawReply options = client.exchange("OPTIONS /echo/1 HTTP/1.1\r\n" + kHost + "\r\n");
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.headers.at("allow"), "GET, HEAD, OPTIONS");
  for (const auto& [name, value] : options.headers) EXPECT_FALSE(name.starts_with("access-control")) << value;
  EXPECT_EQ(client.exchange(get("/echo/a%2Fb?x=1")).body, "\"a/b\"");
  const RawReply refused = client.exchange("DELETE /echo/1 HTTP/1.1\r\n" + kHost + "\r\n");
  EXPECT_EQ(refused.headers.at("allow"), "GET, HEAD, OPTIONS");
  const RawReply refused_head = RawClient(server.port()).exchange("HEAD /nope HTTP/1.1\r\n" + kHost + "\r\n", true);
  EXPECT_EQ(refused_head.status, 404);
}

TEST(Listener, RepeatsAGoodRequestId) {
  Server server;
  RawClient client(server.port());
  EXPECT_EQ(client.exchange(get("/healthz", kHost + "X-Request-Id: mine-1\r\n")).headers.at("x-request-id"), "mine-1");
  const std::string first = client.exchange(kHealth).headers.at("x-request-id");
  EXPECT_THAT(first, testing::MatchesRegex("req_[0-9A-Za-z]{24}"));
  EXPECT_NE(client.exchange(kHealth).headers.at("x-request-id"), first);
}

TEST(Listener, AsksForKeys) {
  ListenerOptions options;
  options.api_keys = {"secret"};
  Server server(std::move(options));
  const auto ask = [&](const std::string& path, const std::string& field) {
    return RawClient(server.port()).exchange(get(path, kHost + field));
  };
  for (const std::string field : {"", "Authorization: Bearer wrong\r\n", "x-api-key: wrong\r\n"}) {
    const RawReply refused = ask("/who", field);
    EXPECT_EQ(refused.status, 401);
    EXPECT_EQ(refused.headers.at("www-authenticate"), "Bearer");
    EXPECT_THAT(refused.body, HasSubstr("API key"));
  }
  EXPECT_EQ(ask("/who", "Authorization: Bearer " + std::string(10'000, 'a') + "\r\n").status, 401);
  EXPECT_THAT(ask("/who", "authorization: bearer secret\r\n").body, testing::MatchesRegex("\"[0-9a-f]{16} here\""));
  EXPECT_EQ(ask("/who", "x-api-key: secret\r\n").status, 200);
  EXPECT_EQ(ask("/open", "").body, "\"\"");
  EXPECT_EQ(ask("/open", "x-api-key: wrong\r\n").body, "\"\"");
  EXPECT_EQ(ask("/open", "x-api-key: secret\r\n").body.size(), 18u);
  EXPECT_EQ(ask("/healthz", "").status, 200);
  EXPECT_EQ(ask("/metrics", "").status, 200);
  EXPECT_EQ(ask("/nope", "").status, 401);
  // The key comes before the route, the content type and the size.
  EXPECT_EQ(RawClient(server.port()).exchange(post("Content-Length: 2000000000\r\n")).status, 401);
}

TEST(Listener, LimitsHowOftenACallerPosts) {
  ListenerOptions options;
  options.rate_limit = {.requests_per_minute = 2, .burst = 2};
  Server server(std::move(options));
  const auto ask = [&](const std::string& request) { return RawClient(server.port()).exchange(request); };
  for (int i = 0; i < 2; ++i) EXPECT_EQ(ask(post_json("/length", "{}")).status, 200);
  const RawReply refused = ask(post_json("/v1/embeddings", "{}"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_THAT(refused.body, HasSubstr(R"("type":"rate_limit_error")"));
  EXPECT_THAT(refused.body, HasSubstr(R"("code":"rate_limit_exceeded")"));
  EXPECT_THAT(refused.body, HasSubstr("2 requests a minute"));
  // A token comes every half minute.
  EXPECT_GE(std::stoi(refused.headers.at("retry-after")), 25);
  EXPECT_LE(std::stoi(refused.headers.at("retry-after")), 30);
  EXPECT_LE(std::stoi(refused.headers.at("retry-after-ms")), 30'000);
  EXPECT_EQ(refused.headers.at("connection"), "close");
  // Those that only look are let through, and an unknown route takes nothing.
  EXPECT_EQ(ask(kHealth).status, 200);
  EXPECT_EQ(ask(get("/who")).status, 200);
  EXPECT_EQ(ask(post_json("/nope", "{}")).status, 404);
}

TEST(Listener, LimitsEachKeyByItself) {
  ListenerOptions options;
  options.api_keys = {"first-secret", "second-secret"};
  options.rate_limit = {.requests_per_minute = 1, .burst = 1};
  Server server(std::move(options));
  const auto ask = [&](const std::string& key) {
    return RawClient(server.port()).exchange(post_json("/length", "{}", "x-api-key: " + key + "\r\n")).status;
  };
  EXPECT_EQ(ask("first-secret"), 200);
  EXPECT_EQ(ask("first-secret"), 429);
  EXPECT_EQ(ask("wrong"), 401);
  EXPECT_EQ(ask("second-secret"), 200);
}

TEST(Listener, AnAdminsRouteWantsAnAdminKey) {
  ListenerOptions options;
  options.api_keys = {"secret"};
  options.admin_keys = {"admin-secret"};
  Server server(std::move(options));
  const auto ask = [&](const std::string& fields) {
    return RawClient(server.port()).exchange(post_json("/admin", "{}", fields));
  };
  EXPECT_EQ(ask("").status, 401);
  const RawReply refused = ask("x-api-key: secret\r\n");
  EXPECT_EQ(refused.status, 403);
  EXPECT_THAT(refused.body, HasSubstr(R"("code":"insufficient_scope")"));
  EXPECT_EQ(ask("x-api-key: admin-secret\r\n").status, 200);
  EXPECT_EQ(ask("Authorization: Bearer admin-secret\r\n").status, 200);
  EXPECT_EQ(RawClient(server.port()).exchange(get("/who", kHost + "x-api-key: admin-secret\r\n")).status, 200);

  Server open;
  EXPECT_EQ(RawClient(open.port()).exchange(post_json("/admin", "{}")).status, 200);
}

TEST(Listener, ReadsBodiesByLengthAndByChunks) {
  Server server;
  RawClient client(server.port());
  const std::string body(3 << 20, 'x');
  EXPECT_EQ(client.exchange(post_json("/length", body)).body, std::to_string(body.size()));
  std::string chunks;
  for (int i = 0; i < 1000; ++i) chunks += "a;name=value\r\n0123456789\r\n";
  EXPECT_EQ(client.exchange(post(kJson + kChunked, chunks + "0\r\nX: y\r\n\r\n", "/length")).body, "10000");
  EXPECT_EQ(client.exchange(post_json("/length", "")).body, "0");
  // One byte at a time.
  const std::string slow = post(kJson + kChunked, "3\r\nabc\r\n0\r\nX: y\r\n\r\n", "/length");
  for (const char byte : slow) client.send(std::string(1, byte));
  EXPECT_EQ(client.read_reply().body, "3");
  EXPECT_EQ(client.exchange(post_json("/length", std::string(8 << 20, 'x'))).body, "8388608");
}

TEST(Listener, ContinuesWhenAsked) {
  Server server;
  RawClient client(server.port());
  const RawReply go = client.exchange(post(kJson + "Expect: 100-continue\r\nContent-Length: 2\r\n", "", "/length"));
  EXPECT_EQ(go.status, 100);
  EXPECT_EQ(client.exchange("{}").body, "2");
}

TEST(Listener, LimitsTheBodiesInFlight) {
  ListenerOptions options;
  options.body_bytes_limit = 1000;
  Server server(std::move(options));
  const RawReply by_length = RawClient(server.port()).exchange(post_json("/length", std::string(1001, 'x')));
  EXPECT_EQ(by_length.status, 503);
  EXPECT_THAT(by_length.body, HasSubstr("memory_pressure"));
  EXPECT_EQ(by_length.headers.at("retry-after"), "5");
  const std::string chunk = "3e9\r\n" + std::string(1001, 'x');
  EXPECT_EQ(RawClient(server.port()).exchange(post(kJson + kChunked, chunk, "/length")).status, 503);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(RawClient(server.port()).exchange(post_json("/length", std::string(900, 'x'))).status, 200);
  }
}

TEST(Listener, WhatIsOnlyAnnouncedTakesNoRoom) {
  ListenerOptions options;
  options.body_bytes_limit = 1000;
  Server server(std::move(options));
  RawClient by_length(server.port());
  RawClient by_chunks(server.port());
  by_length.send(post(kJson + "Content-Length: 490\r\n", "x", "/length"));
  by_chunks.send(post(kJson + kChunked, "1ea\r\nx", "/length"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(RawClient(server.port()).exchange(post_json("/length", std::string(300, 'x'))).status, 200);
  }
  EXPECT_EQ(by_length.exchange(std::string(489, 'x')).body, "490");
  EXPECT_EQ(by_chunks.exchange(std::string(489, 'x') + "\r\n0\r\n\r\n").body, "490");
}

TEST(Listener, KeepsConnections) {
  Server server;
  RawClient client(server.port());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(client.exchange(kHealth).status, 200);
  const RawReply last = client.exchange(get("/healthz", kHost + "Connection: close\r\n"));
  EXPECT_EQ(last.headers.at("connection"), "close");
  EXPECT_TRUE(client.at_end());
  RawClient old(server.port());
  EXPECT_EQ(old.exchange("GET /healthz HTTP/1.0\r\n" + kHost + "\r\n").headers.at("connection"), "close");
  EXPECT_TRUE(old.at_end());
}

TEST(Listener, AnswersPipelinedRequestsInOrder) {
  Server server;
  RawClient client(server.port());
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += get("/echo/" + std::to_string(i));
  client.send(requests);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.read_reply().body, "\"" + std::to_string(i) + "\"");
}

TEST(Listener, ServesAClientThatHasClosedItsSide) {
  Server server;
  RawClient client(server.port());
  client.send(get("/hold"));
  client.finish_sending();
  const auto held = server.next();
  std::atomic<bool> left{false};
  held.reply->on_disconnect([&] { left = true; });
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_FALSE(held.reply->disconnected());
  held.reply->respond(200, {}, "done");
  EXPECT_EQ(client.read_reply().body, "done");
  EXPECT_FALSE(left);
}

ListenerOptions probing_soon() {
  ListenerOptions options;
  options.probe_half_closed_after = milliseconds(100);
  return options;
}

TEST(Listener, NoticesAnOrderlyCloseWhileAReplyIsComputed) {
  Server server(probing_soon());
  auto client = std::make_unique<RawClient>(server.port());
  client->send(get("/hold"));
  const auto held = server.next();
  std::promise<void> left;
  held.reply->on_disconnect([&] { left.set_value(); });
  client.reset();  // sends no reset: nothing is unread
  EXPECT_EQ(left.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_EQ(server.records.receive_for(std::chrono::seconds(20))->status, 499);
}

TEST(Listener, ProbesAClientThatHasClosedItsSideUntilItIsServed) {
  Server server(probing_soon());
  RawClient client(server.port());
  client.send(get("/hold") + get("/echo/1"));
  client.finish_sending();
  const auto held = server.next();
  EXPECT_EQ(client.read_reply().status, 102);
  EXPECT_EQ(client.read_reply().status, 102);
  EXPECT_FALSE(held.reply->disconnected());
  held.reply->respond(200, {}, "done");
  RawReply reply = client.read_reply();
  while (reply.status == 102) reply = client.read_reply();
  EXPECT_EQ(reply.body, "done");
  EXPECT_EQ(client.read_reply().body, "\"1\"");
}

TEST(Listener, ProbesNobodyElse) {
  Server server(probing_soon());
  RawClient open(server.port());
  RawClient old(server.port());
  open.send(get("/hold"));
  const auto open_held = server.next();
  old.send("GET /hold HTTP/1.0\r\n" + kHost + "\r\n");
  old.finish_sending();
  const auto old_held = server.next();
  std::this_thread::sleep_for(milliseconds(350));
  open_held.reply->respond(200, {}, "one");
  old_held.reply->respond(200, {}, "two");
  EXPECT_EQ(open.read_reply().body, "one");
  EXPECT_EQ(old.read_reply().body, "two");
}

TEST(Listener, NoticesAResetWhileAReplyIsComputed) {
  Server server;
  RawClient client(server.port());
  client.send(get("/hold"));
  const auto held = server.next();
  std::promise<void> left;
  held.reply->on_disconnect([&] { left.set_value(); });
  client.reset();
  EXPECT_EQ(left.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_TRUE(held.reply->disconnected());
  held.reply->respond(200, {}, "nobody reads this");
  EXPECT_EQ(server.records.receive_for(std::chrono::seconds(20))->status, 499);
  expect_alive(server);
}

TEST(Listener, NoticesAResetMidStream) {
  Server server;
  RawClient client(server.port());
  client.send(get("/hold"));
  const auto held = server.next();
  std::promise<void> left;
  held.reply->on_disconnect([&] { left.set_value(); });
  held.reply->start_stream(200, sse_headers());
  held.reply->write(sse_event("1"));
  client.read_until("data: 1\n\n");
  client.reset();
  EXPECT_EQ(left.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  held.reply->write(sse_event("2"));
  held.reply->end();
  expect_alive(server);
}

TEST(Listener, NoticesThatAStreamsReaderHasClosed) {
  Server server;
  auto client = std::make_unique<RawClient>(server.port());
  client->send(get("/hold"));
  const auto held = server.next();
  std::promise<void> left;
  held.reply->on_disconnect([&] { left.set_value(); });
  held.reply->start_stream(200, sse_headers());
  held.reply->write(sse_event("1"));
  client->read_until("data: 1\n\n");
  client.reset();  // an orderly close: only the answer to the next write tells
  held.reply->write(sse_event("2"));
  EXPECT_EQ(left.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

TEST(Listener, StreamsAsItComes) {
  Server server;
  RawClient client(server.port());
  client.send(get("/hold"));
  const auto held = server.next();
  held.reply->start_stream(200, sse_headers());
  held.reply->write(sse_event("1"));
  client.read_until("data: 1\n\n");
  held.reply->write(sse_event("2"));
  client.read_until("data: 2\n\n");
  held.reply->end();
  client.read_until("0\r\n\r\n");
  EXPECT_EQ(client.exchange(kHealth).status, 200);
}

TEST(Listener, CutsAStreamThatEndsBadly) {
  Server server;
  RawClient client(server.port());
  client.send(get("/hold"));
  auto held = server.next();
  held.reply->start_stream(200, sse_headers());
  held.reply->write(sse_event("1"));
  held.reply->end(StreamEnd::cut);
  const RawReply reply = client.read_reply();
  EXPECT_EQ(reply.body, "data: 1\n\n");
  EXPECT_FALSE(reply.complete);
}

TEST(Listener, PingsSilentStreams) {
  ListenerOptions options;
  options.ping_after = milliseconds(20);
  Server server(std::move(options));
  RawClient client(server.port());
  client.send(get("/hold"));
  const auto held = server.next();
  held.reply->start_stream(200, sse_headers());
  client.read_until(": ping\n\n");
  client.read_until(": ping\n\n");
  EXPECT_FALSE(held.reply->respond(500, {}, "too late"));
  held.reply->end();
  client.read_until("0\r\n\r\n");
}

TEST(Listener, GivesUpOnAReaderThatStops) {
  ListenerOptions options;
  options.write_deadline = milliseconds(100);
  Server server(std::move(options));
  RawClient client(server.port(), 4096);
  client.send(get("/hold"));
  const auto held = server.next();
  std::promise<void> left;
  held.reply->on_disconnect([&] { left.set_value(); });
  held.reply->start_stream(200, sse_headers());
  held.reply->write(std::string(16 << 20, 'x'));
  EXPECT_EQ(left.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  expect_alive(server);
}

TEST(Listener, GivesUpOnAReaderThatLagsBehind) {
  ListenerOptions options;
  options.stream_buffer_limit_bytes = 64 << 10;
  Server server(std::move(options));
  RawClient client(server.port(), 4096);
  client.send(get("/hold"));
  const auto held = server.next();
  std::promise<void> left;
  held.reply->on_disconnect([&] { left.set_value(); });
  held.reply->start_stream(200, sse_headers());
  auto gone = left.get_future();
  for (int i = 0; i < 5000 && !held.reply->disconnected(); ++i) held.reply->write(std::string(16 << 10, 'x'));
  EXPECT_EQ(gone.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  expect_alive(server);
}

TEST(Listener, SendsLargeRepliesToSlowReaders) {
  ListenerOptions options;
  options.stream_buffer_limit_bytes = 1000;
  Server server(std::move(options));
  RawClient client(server.port(), 4096);
  client.send(get("/hold"));
  server.next().reply->respond(200, {}, std::string(8 << 20, 'x'));
  EXPECT_EQ(client.read_reply().body.size(), std::size_t{8} << 20);
}

TEST(Listener, SlowRequestsTimeOut) {
  ListenerOptions options;
  options.header_deadline = milliseconds(100);
  options.body_deadline = milliseconds(100);
  Server server(std::move(options));
  RawClient header(server.port());
  RawClient body(server.port());
  RawClient chunk(server.port());
  header.send("GET /healthz HT");
  body.send(post(kJson + "Content-Length: 5\r\n", "{"));
  chunk.send(post(kJson + kChunked, "5\r\nab"));
  for (RawClient* client : {&header, &body, &chunk}) {
    const RawReply reply = client->read_reply();
    EXPECT_EQ(reply.status, 408);
    EXPECT_THAT(reply.body, HasSubstr("request_timeout"));
    EXPECT_THAT(reply.body, HasSubstr("0.1 seconds"));
    EXPECT_TRUE(client->at_end());
  }
  expect_alive(server);
}

TEST(Listener, SilentConnectionsAreClosed) {
  ListenerOptions options;
  options.idle_deadline = milliseconds(100);
  Server server(std::move(options));
  EXPECT_TRUE(RawClient(server.port()).at_end());
}

TEST(Listener, ASlowDripOfHeadersTimesOutToo) {
  ListenerOptions options;
  options.header_deadline = milliseconds(100);
  Server server(std::move(options));
  RawClient client(server.port());
  client.send("GET / HTTP/1.1\r\n");
  std::thread drip([&] {
    for (int i = 0; i < 40 && client.send("X: y\r\n"); ++i) std::this_thread::sleep_for(milliseconds(10));
  });
  EXPECT_EQ(client.read_reply().status, 408);
  drip.join();
}

TEST(Listener, ASlowDripOfABodyTimesOutToo) {
  ListenerOptions options;
  options.body_deadline = milliseconds(100);
  Server server(std::move(options));
  RawClient by_length(server.port());
  RawClient by_chunks(server.port());
  by_length.send(post(kJson + "Content-Length: 1000\r\n", "", "/length"));
  by_chunks.send(post(kJson + kChunked, "", "/length"));
  std::atomic<bool> over{false};
  std::thread drip([&] {
    for (int i = 0; i < 500 && !over; ++i) {
      by_length.send("x");
      by_chunks.send("1\r\nx\r\n");
      std::this_thread::sleep_for(milliseconds(10));
    }
    EXPECT_TRUE(over);
  });
  for (RawClient* client : {&by_length, &by_chunks}) {
    const RawReply reply = client->read_reply();
    EXPECT_EQ(reply.status, 408);
    EXPECT_THAT(reply.body, HasSubstr("1024 bytes a second"));
  }
  over = true;
  drip.join();
}

TEST(Listener, AnEnduringUploadIsServed) {
  ListenerOptions options;
  options.body_deadline = milliseconds(1000);
  options.body_rate_bytes_per_s = 1000;
  Server server(std::move(options));
  RawClient client(server.port());
  client.send(post(kJson + "Content-Length: 10000\r\n", "", "/length"));
  for (int i = 0; i < 20; ++i) {
    client.send(std::string(500, 'x'));
    std::this_thread::sleep_for(milliseconds(75));
  }
  EXPECT_EQ(client.read_reply().body, "10000");
}

TEST(Listener, ALateUploadStillGetsItsRefusal) {
  Server server;
  RawClient client(server.port());
  client.send(post(kJson + "Content-Length: 20000000\r\n"));
  for (int sent = 0; sent < 20; ++sent) client.send(std::string(1'000'000, 'x'));
  EXPECT_EQ(client.read_reply().status, 413);
}

TEST(Listener, HandlersMayFail) {
  Server server;
  RawClient client(server.port());
  const RawReply full = client.exchange(get("/throw"));
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.headers.at("retry-after"), "1");
  const RawReply bug = client.exchange(get("/bug"));
  EXPECT_EQ(bug.status, 500);
  EXPECT_EQ(bug.body.find("secret"), std::string::npos);
  EXPECT_EQ(client.exchange(get("/forget")).status, 500);
  EXPECT_EQ(client.exchange(kHealth).status, 200);
}

TEST(Listener, RoutesThatAnswerAtOnceWaitForNoThread) {
  ListenerOptions options;
  options.dispatch = [](const std::function<void()>&) { throw std::runtime_error("every thread is busy"); };
  Server server(std::move(options));
  RawClient client(server.port());
  EXPECT_EQ(client.exchange(get("/now")).status, 200);
  EXPECT_EQ(client.exchange(get("/now/throw")).status, 429);
  const RawReply bug = client.exchange(get("/now/bug"));
  EXPECT_EQ(bug.status, 500);
  EXPECT_EQ(bug.body.find("secret"), std::string::npos);
  EXPECT_EQ(client.exchange(get("/now/forget")).status, 500);
  EXPECT_EQ(client.exchange(get("/hidden")).status, 500);
  EXPECT_EQ(client.exchange(get("/now")).status, 200);
  EXPECT_EQ(server.hidden_calls, 0);
}

TEST(Listener, WorksForNobodyWhoHasLeft) {
  Channel<std::function<void()>> queue;
  ListenerOptions options;
  options.dispatch = [&](std::function<void()> job) { queue.send(std::move(job)); };
  Server server(std::move(options));
  RawClient client(server.port());
  RawClient patient(server.port());
  client.send(get("/hidden"));
  auto left = queue.receive_for(std::chrono::seconds(20));
  patient.send(get("/hidden"));
  auto waiting = queue.receive_for(std::chrono::seconds(20));
  ASSERT_TRUE(left && waiting);
  client.reset();
  EXPECT_EQ(server.records.receive_for(std::chrono::seconds(20))->status, 499);
  (*left)();
  EXPECT_EQ(server.hidden_calls, 0);
  (*waiting)();
  EXPECT_EQ(server.hidden_calls, 1);
  EXPECT_EQ(patient.read_reply().status, 200);
}

TEST(Listener, RepliesMayComeFromOtherThreadsAfterItHasStopped) {
  std::vector<Server::Held> late;
  {
    Server server;
    RawClient one(server.port());
    RawClient two(server.port());
    one.send(get("/hold"));
    two.send(get("/hold"));
    late.push_back(server.next());
    late.push_back(server.next());
    std::atomic<int> left{0};
    for (auto& held : late) held.reply->on_disconnect([&] { ++left; });
    server.listener().stop();
    EXPECT_EQ(left, 2);
    EXPECT_TRUE(one.at_end());
  }
  late[0].reply->respond(200, {}, "late");
  late[1].reply->start_stream(200, {});
  late[1].reply->write("late");
}

TEST(Listener, Drains) {
  Server server;
  RawClient busy(server.port());
  RawClient kept(server.port());
  EXPECT_EQ(kept.exchange(kHealth).status, 200);
  busy.send(get("/hold"));
  const auto held = server.next();
  server.listener().drain();
  EXPECT_FALSE(server.listener().wait_until_idle(milliseconds(10)));
  EXPECT_TRUE(kept.at_end());
  const RawReply refused = RawClient(server.port()).exchange(get("/echo/1"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("connection"), "close");
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_THAT(refused.body, HasSubstr("\"draining\""));
  RawClient probing(server.port());
  const RawReply probe = probing.exchange(kHealth);
  EXPECT_EQ(probe.status, 200);
  EXPECT_EQ(probe.headers.at("connection"), "close");
  EXPECT_TRUE(probing.at_end());
  held.reply->respond(200, {}, "done");
  EXPECT_EQ(busy.read_reply().body, "done");
  EXPECT_TRUE(busy.at_end());
  EXPECT_TRUE(server.listener().wait_until_idle(std::chrono::seconds(20)));
}

TEST(Listener, DrainingWaitsForNoHalfHeader) {
  Server server;
  RawClient before(server.port());
  EXPECT_EQ(before.exchange(kHealth).status, 200);
  before.send("G");
  RawClient first(server.port());
  first.send("GET /healthz HTTP/1.1\r\n");
  EXPECT_EQ(RawClient(server.port()).exchange(kHealth).status, 200);  // both have been read by now
  EXPECT_TRUE(server.listener().wait_until_idle(std::chrono::seconds(20)));
  server.listener().drain();
  EXPECT_EQ(before.read_reply().status, 503);
  EXPECT_EQ(first.read_reply().status, 503);
  EXPECT_TRUE(first.at_end());
  RawClient after(server.port());
  after.send("G");
  EXPECT_TRUE(server.listener().wait_until_idle(milliseconds(0)));
}

TEST(Listener, WaitsForRoomBeyondTheConnectionLimit) {
  ListenerOptions options;
  options.connection_limit = 2;
  Server server(std::move(options));
  auto one = std::make_unique<RawClient>(server.port());
  RawClient two(server.port());
  EXPECT_EQ(one->exchange(kHealth).status, 200);
  EXPECT_EQ(two.exchange(kHealth).status, 200);
  RawClient three(server.port());
  three.send(kHealth);
  one.reset();
  EXPECT_EQ(three.read_reply().status, 200);
}

TEST(Listener, PausesWithoutDescriptors) {
  Server server;
  RawClient client(server.port());
  EXPECT_EQ(client.exchange(kHealth).status, 200);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  RawClient waiting(server.port());  // may be accepted yet, or not
  EXPECT_EQ(waiting.exchange(kHealth).status, 200);
  const int next_descriptor = ::dup(0);
  ::close(next_descriptor);
  const rlimit tight{static_cast<rlim_t>(next_descriptor) + 1, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  RawClient late(server.port());  // takes the last descriptor; the server's side finds none
  late.send(kHealth);
  timespec cpu_before{};
  timespec cpu_after{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_before);
  std::this_thread::sleep_for(milliseconds(300));
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_after);
  EXPECT_EQ(client.exchange(kHealth).status, 200);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(late.read_reply().status, 200);
  const auto cpu_ms =
      (cpu_after.tv_sec - cpu_before.tv_sec) * 1000 + (cpu_after.tv_nsec - cpu_before.tv_nsec) / 1000000;
  EXPECT_LT(cpu_ms, 150);
}

TEST(Listener, TellsOfEveryRequest) {
  Server server;
  RawClient client(server.port());
  client.exchange(get("/echo/1"));
  client.exchange(get("/nope"));
  const auto first = server.records.receive_for(std::chrono::seconds(20));
  const auto second = server.records.receive_for(std::chrono::seconds(20));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->route, "/echo/{id}");
  EXPECT_EQ(first->status, 200);
  EXPECT_GE(first->seconds, 0.0);
  EXPECT_EQ(second->route, "-");
  EXPECT_EQ(second->status, 404);
}

TEST(Listener, SaysThatAPortIsTaken) {
  Server server;
  ListenerOptions options;
  options.port = server.port();
  EXPECT_THROW(Server{std::move(options)}, std::system_error);
  ListenerOptions nowhere;
  nowhere.address = "no.such.address";
  EXPECT_THROW(Server{std::move(nowhere)}, std::system_error);
}

TEST(Listener, ServesManyAtOnceOnTwoThreads) {
  ListenerOptions options;
  options.threads = 2;
  Server server(std::move(options));
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&, i] {
      RawClient client(server.port());
      for (int j = 0; j < 50; ++j) {
        const std::string id = std::to_string(i * 100 + j);
        if (client.exchange(get("/echo/" + id)).body == "\"" + id + "\"") ++good;
        if (j % 10 == 9) RawClient(server.port()).send("GET / HT");
      }
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(good, 16 * 50);
}

}  // namespace
}  // namespace cortex
