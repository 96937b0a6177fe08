#include "http/boost_assertion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/assert.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/thread_pool.h"
#include "fakes/raw_client.h"
#include "http/listener.h"

namespace cortex {
namespace {

namespace beast_http = boost::beast::http;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

void assert_bare(int value) { BOOST_ASSERT(value == 1); }
void assert_with_message(int value) { BOOST_ASSERT_MSG(value == 1, "one is wanted"); }

TEST(BoostAssertion, SaysWhatAndWhere) {
  const std::string line = "boost_assertion_test.cpp:" + std::to_string(__LINE__ - 4);
  EXPECT_NO_THROW(assert_bare(1));
  EXPECT_THAT([] { assert_bare(2); },
              ThrowsMessage<BoostAssertion>(AllOf(HasSubstr(line), HasSubstr("value == 1"), HasSubstr("assert_bare"))));
}

TEST(BoostAssertion, SaysItsMessage) {
  EXPECT_NO_THROW(assert_with_message(1));
  EXPECT_THAT([] { assert_with_message(2); },
              ThrowsMessage<BoostAssertion>(
                  AllOf(HasSubstr("value == 1"), HasSubstr("one is wanted"), HasSubstr("assert_with_message"))));
}

// Beast 1.81 asserts that it sees all of a last chunk at once; BodyReader sees to it that it does.
TEST(BoostAssertion, EndsAParserThatAsserts) {
  beast_http::request_parser<beast_http::string_body> parser;
  parser.eager(true);
  const auto put = [&](std::string_view bytes) {
    boost::system::error_code error;
    return parser.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  };
  const std::string_view head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  ASSERT_EQ(put(head), head.size());
  ASSERT_EQ(put("0\r\n"), 0U);
  EXPECT_THROW(put("0\r\n"), BoostAssertion);
}

// The server lives on, whichever step of a connection meets one.
TEST(BoostAssertion, EndsOneConnection) {
  start_log(LogLevel::error, "test");
  ThreadPool pool(1);
  std::atomic<int> requests = 0;
  ListenerOptions options;
  options.dispatch = [&](std::function<void()> job) { pool.submit(std::move(job)); };
  options.observe = [&](const RequestRecord&) { BOOST_ASSERT(++requests > 1); };
  const auto answer = [](const auto&, const auto& reply) { reply->respond(200, {}, "a"); };
  const Listener listener(Router({{.method = "GET", .pattern = "/", .handler = answer}}), std::move(options));

  const std::string request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  testing::internal::CaptureStderr();
  RawClient first(listener.port());
  EXPECT_EQ(first.exchange(request + request).status, 200);
  EXPECT_TRUE(first.at_end());
  EXPECT_EQ(requests, 1);
  EXPECT_EQ(RawClient(listener.port()).exchange(request).status, 200);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("++requests > 1 does not hold"));
}

}  // namespace
}  // namespace cortex
