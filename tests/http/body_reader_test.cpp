#include "http/body_reader.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace cortex {
namespace {

std::string request(const std::string& fields, const std::string& body) {
  return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body;
}

const std::string kChunked = "Transfer-Encoding: chunked\r\n";

// Feeds `text` with `step` more bytes each time; returns the body and what was left.
std::pair<std::string, std::string> read(const std::string& text, std::size_t step) {
  BodyReader reader(100);
  std::string input;
  std::size_t fed = 0;
  while (!reader.done()) {
    if (fed == text.size()) throw std::runtime_error("the body does not end");
    const std::size_t more = std::min(step, text.size() - fed);
    input += text.substr(fed, more);
    fed += more;
    for (std::size_t used = 1; used > 0 && !input.empty() && !reader.done();) {
      used = reader.put(input);
      input.erase(0, used);
    }
  }
  return {reader.take(), input + text.substr(fed)};
}

TEST(BodyReader, ReadsInPiecesOfAnySize) {
  const std::string by_length = request("Content-Length: 5\r\n", "helloGET");
  const std::string by_chunks = request(kChunked, "2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nHost: b\r\n\r\nGET");
  for (std::size_t step = 1; step < 120; ++step) {
    for (const auto& text : {by_length, by_chunks}) {
      const auto [body, rest] = read(text, step);
      EXPECT_EQ(body, "hello") << step;
      EXPECT_EQ(rest, "GET") << step;
    }
  }
}

TEST(BodyReader, ReadsAnEmptyBodyInPiecesOfAnySize) {
  for (const std::string last : {"0\r\n\r\n", "000\r\n\r\n", "0;a=b\r\n\r\n", "0\r\nHost: b\r\n\r\n"}) {
    for (std::size_t step = 1; step < 80; ++step) {
      const auto [body, rest] = read(request(kChunked, last + "GET"), step);
      EXPECT_EQ(body, "") << step;
      EXPECT_EQ(rest, "GET") << step;
    }
  }
}

TEST(BodyReader, ReadsZerosInPiecesOfAnySize) {
  for (std::size_t step = 1; step < 80; ++step) {
    EXPECT_EQ(read(request(kChunked, "5\r\n00000\r\n02\r\n00\r\n0\r\n\r\nGET"), step),
              std::pair(std::string("0000000"), std::string("GET")))
        << step;
  }
}

void expect_error(const std::string& text, ErrorCode code) {
  try {
    read(text, text.size());
    ADD_FAILURE() << text;
  } catch (const std::runtime_error& error) {
    ADD_FAILURE() << text << ": " << error.what();
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(code)) << error.message();
  }
}

TEST(BodyReader, RefusesWhatIsTooLargeOrBroken) {
  expect_error(request(kChunked, "65\r\n"), ErrorCode::request_too_large);
  expect_error(request(kChunked, "64\r\n" + std::string(100, 'x') + "\r\n1\r\n"), ErrorCode::request_too_large);
  expect_error(request(kChunked, "ffffffffffffffff\r\n"), ErrorCode::request_too_large);
  expect_error(request("Content-Length: 101\r\n", ""), ErrorCode::request_too_large);
  expect_error(request(kChunked, "1ffffffffffffffff\r\n"), ErrorCode::invalid_framing);
  expect_error(request(kChunked, "x\r\n"), ErrorCode::invalid_framing);
  expect_error(request(kChunked, "1\r\nabc\r\n"), ErrorCode::invalid_framing);
  expect_error(request(kChunked, "1;" + std::string(300, 'a') + "\r\n"), ErrorCode::invalid_framing);
  expect_error(request(kChunked, "0\r\nX: " + std::string(20'000, 'a')), ErrorCode::invalid_framing);
  expect_error("POST / HTTP/9\r\n\r\n", ErrorCode::invalid_header);
}

TEST(BodyReader, CountsWhatHasCome) {
  const std::string by_length = request("Content-Length: 90\r\n", "hel");
  const std::string by_chunks = request(kChunked, "1;a=b\r\nh\r\n50\r\nel");
  for (const auto& text : {by_length, by_chunks}) {
    BodyReader reader(100);
    std::string input = text;
    for (std::size_t used = 1; used > 0 && !input.empty();) {
      used = reader.put(input);
      input.erase(0, used);
    }
    EXPECT_EQ(reader.body_bytes(), 3u);
  }
}

}  // namespace
}  // namespace cortex
