#include "http/body_reader.h"

#include <fmt/core.h>

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <optional>
#include <utility>

#include "base/error.h"
#include "http/gate.h"

namespace cortex {

namespace beast_http = boost::beast::http;
using boost::system::error_code;

struct BodyReader::Parser {
  void on_chunk(std::uint64_t bytes, std::size_t extension_bytes) {
    if (extension_bytes > kChunkExtensionLimitBytes) {
      throw Error(ErrorCode::invalid_framing,
                  fmt::format("invalid framing: a chunk's extension is over {} bytes", kChunkExtensionLimitBytes));
    }
    if (bytes > limit_bytes - chunk_bytes) throw body_too_large(limit_bytes);
    chunk_bytes += bytes;
    begun = true;
  }

  std::uint64_t limit_bytes;
  std::uint64_t chunk_bytes = 0;
  bool begun = false;
  std::optional<Error> refusal;  // of on_chunk(), which the parser is not to be unwound by
  // The parser keeps a reference to it.
  std::function<void(std::uint64_t, boost::beast::string_view, error_code&)> callback;
  beast_http::request_parser<beast_http::string_body> parser;
};

BodyReader::BodyReader(std::uint64_t limit_bytes) : parser_(std::make_unique<Parser>()) {
  parser_->limit_bytes = limit_bytes;
  parser_->callback = [state = parser_.get()](std::uint64_t bytes, boost::beast::string_view extension,
                                              error_code& error) {
    try {
      state->on_chunk(bytes, extension.size());
    } catch (const Error& refusal) {
      state->refusal = refusal;
      error = beast_http::error::bad_chunk;
    }
  };
  parser_->parser.header_limit(kHeadLimitBytes + 1);
  parser_->parser.body_limit(limit_bytes);
  parser_->parser.eager(true);
  parser_->parser.on_chunk_header(parser_->callback);
}

BodyReader::~BodyReader() = default;

std::size_t BodyReader::put(std::string_view bytes) {
  auto& parser = parser_->parser;
  // A last chunk that comes in pieces: the parser asserts that it sees all of "0\r\n\r\n", the least there can be.
  constexpr std::size_t kLastChunkBytes = 5;
  if (parser.is_header_done() && parser.chunked() && bytes.size() < kLastChunkBytes && bytes.starts_with('0')) return 0;
  error_code error;
  const std::size_t used = parser.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  if (parser_->refusal) throw Error(*parser_->refusal);
  if (error == beast_http::error::body_limit) throw body_too_large(parser_->limit_bytes);
  if (error && error != beast_http::error::need_more) {
    if (!parser.is_header_done()) {
      throw Error(ErrorCode::invalid_header, fmt::format("invalid header: {}", error.message()));
    }
    throw Error(ErrorCode::invalid_framing, fmt::format("invalid framing in a chunk: {}", error.message()));
  }
  if (used == 0 && bytes.size() > kHeadLimitBytes) {
    throw Error(ErrorCode::invalid_framing, "invalid framing: a chunk's size line or the trailer is too long");
  }
  return used;
}

bool BodyReader::begun() const { return parser_->begun; }

bool BodyReader::done() const { return parser_->parser.is_done(); }

std::uint64_t BodyReader::body_bytes() const { return parser_->parser.get().body().size(); }

std::string BodyReader::take() { return std::move(parser_->parser.get().body()); }

}  // namespace cortex
