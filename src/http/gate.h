// The strict gate in front of the HTTP parser: what it lets through has one meaning. A lenient parser takes a folded
// line, an unknown Transfer-Encoding or a second Host for something, and a proxy before it for something else; so the
// raw bytes are judged first, and the parser is the second opinion. Pure functions over bytes, no I/O; any thread.
//
// The caller judges in this order: framing (head_size, parse_head), Host and Origin, API key, route, content type,
// size. Every refusal is an Error out of the closed list; the connection is closed after it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace cortex {

inline constexpr std::size_t kHeadLimitBytes = std::size_t{16} << 10;
inline constexpr std::size_t kFieldLimit = 100;
inline constexpr std::size_t kTargetLimitBytes = std::size_t{8} << 10;
inline constexpr std::size_t kChunkExtensionLimitBytes = 256;

// Copied out of the header block, so that nothing that comes later (trailers) can change it.
struct RequestHead {
  std::string method;  // any token: the router knows the methods
  std::string path;    // decoded once, without the query
  bool is_http_1_0 = false;
  bool keep_alive = true;
  std::string host;  // as sent
  std::optional<std::string> origin;
  std::string authorization;
  std::string api_key;  // x-api-key
  std::string content_type;
  std::string request_id;  // empty unless it is well-formed: [A-Za-z0-9._-]{1,128}
  bool has_content_encoding = false;
  bool expects_continue = false;
  bool chunked = false;
  std::optional<std::uint64_t> content_length;
};

// The size of the header block that `bytes` begins with, its empty line included; nothing while it has not ended. Only
// what comes after the first `scanned_bytes`, which an earlier call saw, is looked at. Throws Error invalid_header for
// what can't become one (a bare CR or LF, NUL, a first byte that starts no method), uri_too_long, headers_too_large.
std::optional<std::size_t> head_size(std::string_view bytes, std::size_t scanned_bytes);

// `block` is what head_size() measured. Throws Error invalid_header, invalid_framing, invalid_target, uri_too_long,
// headers_too_large, unsupported_transfer_encoding or http_version_unsupported.
RequestHead parse_head(std::string_view block);

// Whether a page of `host` may talk to us over loopback: localhost, 127.0.0.1, [::1] or one of `names`, on any port.
bool is_own_host(std::string_view host, std::span<const std::string> names);

// On loopback, where the browser's own machine is the peer, a foreign Host is a rebound name: Error host_not_allowed.
// A foreign Origin is Error origin_not_allowed everywhere; one equal to Host is our own where Host is not judged.
void check_host_and_origin(const RequestHead& head, bool loopback, std::span<const std::string> names);

// Throws Error unsupported_media_type, length_required or request_too_large.
void check_content(const RequestHead& head, std::uint64_t body_limit_bytes);

// Names and keywords of HTTP: ASCII letters in any case, whatever the locale.
bool equal_ignoring_case(std::string_view a, std::string_view b);

// The error for a body over its limit, found by its length or while it is read.
Error body_too_large(std::uint64_t body_limit_bytes);

}  // namespace cortex
