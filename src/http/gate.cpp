#include "http/gate.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "http/error_reply.h"

namespace cortex {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::string_view kHeadEnd = "\r\n\r\n";
constexpr std::size_t kRequestIdLimitBytes = 128;

[[noreturn]] void refuse_header(std::string_view what) {
  throw Error(ErrorCode::invalid_header, fmt::format("invalid header: {}", what));
}

[[noreturn]] void refuse_framing(std::string_view what) {
  throw Error(ErrorCode::invalid_framing, fmt::format("invalid framing: {}", what));
}

[[noreturn]] void refuse_target(std::string_view what) {
  throw Error(ErrorCode::invalid_target, fmt::format("invalid request target: {}", what));
}

[[noreturn]] void refuse_target_size() {
  throw Error(ErrorCode::uri_too_long,
              fmt::format("the request target is over the limit of {} bytes", kTargetLimitBytes));
}

// Not <cctype>, which follows the locale.
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool is_token_character(char c) {
  return is_digit(c) || is_letter(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_character);
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Whether `word` is one of a comma-separated list.
bool lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (equal_ignoring_case(trimmed(list.substr(0, comma)), word)) return true;
    if (comma == list.npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::string decoded(std::string_view path) {
  std::string text;
  text.reserve(path.size());
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      text += path[i];
      continue;
    }
    if (i + 2 >= path.size() || hex_value(path[i + 1]) < 0 || hex_value(path[i + 2]) < 0) {
      refuse_target("a % without two hexadecimal digits");
    }
    const char byte = static_cast<char>(hex_value(path[i + 1]) * 16 + hex_value(path[i + 2]));
    if (is_control(byte)) refuse_target("an escaped control byte");
    text += byte;
    i += 2;
  }
  return text;
}

void refuse_dot_segments(std::string_view path) {
  for (std::size_t start = 1; start <= path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string_view segment = path.substr(start, end - start);
    if (segment == "." || segment == "..") refuse_target("dot segments");
    start = end + 1;
  }
}

std::string path_of(std::string_view target) {
  if (target.size() > kTargetLimitBytes) refuse_target_size();
  for (const char c : target) {
    if (is_control(c)) refuse_target("a control byte");
    if (static_cast<unsigned char>(c) >= 0x80) refuse_target("a byte outside ASCII");
  }
  if (!target.starts_with('/')) refuse_target(fmt::format("{}; a path that begins with / is wanted", excerpt(target)));
  if (target.find('#') != target.npos) refuse_target("a fragment");
  std::string path = decoded(target.substr(0, target.find('?')));
  refuse_dot_segments(path);
  return path;
}

void read_request_line(std::string_view line, RequestHead* head) {
  const std::size_t first = line.find(' ');
  const std::string_view method = line.substr(0, first);
  if (!is_token(method)) refuse_header("the request line starts with no method");
  const std::size_t last = line.rfind(' ');
  const std::string_view version = last == first ? std::string_view() : line.substr(last + 1);
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    throw Error(ErrorCode::http_version_unsupported, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  }
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (target.find(' ') != target.npos) refuse_target("a space");
  head->method = method;
  head->is_http_1_0 = version == "HTTP/1.0";
  head->path = path_of(target);
}

struct Field {
  std::string_view name;
  std::string_view value;
};

Field read_field(std::string_view line) {
  if (line.front() == ' ' || line.front() == '\t') refuse_header("a folded line");
  const std::size_t colon = line.find(':');
  if (colon == line.npos) refuse_header("a line without a colon");
  const Field field{line.substr(0, colon), trimmed(line.substr(colon + 1))};
  if (!is_token(field.name)) refuse_header("a field name that is no token, or a space before the colon");
  for (const char c : field.value) {
    if (is_control(c) && c != '\t') refuse_header("a control byte in a field's value");
  }
  return field;
}

std::vector<Field> read_fields(std::string_view lines) {
  std::vector<Field> fields;
  while (!lines.empty()) {
    if (fields.size() == kFieldLimit) {
      throw Error(ErrorCode::headers_too_large, fmt::format("more header fields than the limit of {}", kFieldLimit));
    }
    const std::size_t end = lines.find(kLineEnd);
    fields.push_back(read_field(lines.substr(0, end)));
    lines.remove_prefix(end + kLineEnd.size());
  }
  return fields;
}

// The value of a field that may stand once at most.
std::optional<std::string_view> single(std::span<const Field> fields, std::string_view name,
                                       ErrorCode code = ErrorCode::invalid_header) {
  std::optional<std::string_view> value;
  for (const Field& field : fields) {
    if (!equal_ignoring_case(field.name, name)) continue;
    if (value) throw Error(code, fmt::format("invalid header: more than one {}", name));
    value = field.value;
  }
  return value;
}

std::string single_or_empty(std::span<const Field> fields, std::string_view name) {
  return std::string(single(fields, name).value_or(""));
}

std::uint64_t read_length(std::string_view text) {
  std::uint64_t length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  const bool all_digits = !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
  if (!all_digits || error != std::errc() || end != text.data() + text.size()) {
    refuse_framing(fmt::format("Content-Length {} is no length", excerpt(text)));
  }
  return length;
}

void read_framing(std::span<const Field> fields, RequestHead* head) {
  const auto encoding = single(fields, "Transfer-Encoding", ErrorCode::unsupported_transfer_encoding);
  const auto length = single(fields, "Content-Length", ErrorCode::invalid_framing);
  if (encoding && length) refuse_framing("Content-Length beside Transfer-Encoding");
  if (encoding) {
    if (!equal_ignoring_case(*encoding, "chunked")) {
      throw Error(ErrorCode::unsupported_transfer_encoding,
                  fmt::format("Transfer-Encoding {}: only chunked is supported", excerpt(*encoding)));
    }
    if (head->is_http_1_0) refuse_framing("Transfer-Encoding in HTTP/1.0");
    head->chunked = true;
  }
  if (length) head->content_length = read_length(*length);
}

void read_connection(std::span<const Field> fields, RequestHead* head) {
  bool close = false;
  bool keep_alive = false;
  for (const Field& field : fields) {
    if (!equal_ignoring_case(field.name, "Connection")) continue;
    close = close || lists(field.value, "close");
    keep_alive = keep_alive || lists(field.value, "keep-alive");
  }
  head->keep_alive = !close && (keep_alive || !head->is_http_1_0);
}

void read_expectation(std::span<const Field> fields, RequestHead* head) {
  const auto expect = single(fields, "Expect");
  if (!expect) return;
  if (!equal_ignoring_case(*expect, "100-continue")) refuse_header("an Expect other than 100-continue");
  head->expects_continue = !head->is_http_1_0;
}

// A client's id is only repeated and logged, so an odd one is no reason to refuse the request.
std::string request_id_of(std::span<const Field> fields) {
  std::string_view id;
  for (const Field& field : fields) {
    if (!equal_ignoring_case(field.name, "x-request-id")) continue;
    if (!id.empty()) return {};
    id = field.value;
  }
  const auto fits = [](char c) { return is_digit(c) || is_letter(c) || c == '.' || c == '_' || c == '-'; };
  if (id.size() > kRequestIdLimitBytes || !std::all_of(id.begin(), id.end(), fits)) return {};
  return std::string(id);
}

// Without the port, or nothing if what follows the name is no port.
std::optional<std::string_view> without_port(std::string_view host) {
  const std::size_t name_end = host.starts_with('[') ? host.find(']') : 0;
  if (name_end == host.npos) return std::nullopt;
  const std::size_t colon = host.find(':', name_end);
  if (colon == host.npos) return host;
  const std::string_view port = host.substr(colon + 1);
  if (port.size() > 5 || !std::all_of(port.begin(), port.end(), is_digit)) return std::nullopt;
  return host.substr(0, colon);
}

// "https://a:1" -> "a:1"
std::string_view authority_of(std::string_view origin) {
  const std::size_t at = origin.find("://");
  return at == origin.npos ? std::string_view() : origin.substr(at + 3);
}

bool is_json(std::string_view content_type) {
  return equal_ignoring_case(trimmed(content_type.substr(0, content_type.find(';'))), "application/json");
}

}  // namespace

std::optional<std::size_t> head_size(std::string_view bytes, std::size_t scanned_bytes) {
  if (!bytes.empty() && !is_token_character(bytes.front())) refuse_header("the request line starts with no method");
  // One byte back: a CR that ended the earlier bytes is judged now.
  for (std::size_t i = scanned_bytes > 0 ? scanned_bytes - 1 : 0; i < std::min(bytes.size(), kHeadLimitBytes); ++i) {
    const char c = bytes[i];
    if (c == '\0') refuse_header("a NUL byte");
    if (c == '\n' && (i == 0 || bytes[i - 1] != '\r')) refuse_header("a line feed without a carriage return");
    if (c == '\r' && i + 1 < bytes.size() && bytes[i + 1] != '\n') refuse_header("a bare carriage return");
    if (c == '\n' && i >= 3 && bytes.substr(i - 3, 4) == kHeadEnd) return i + 1;
  }
  const bool in_request_line = bytes.substr(0, kHeadLimitBytes).find(kLineEnd) == bytes.npos;
  if (in_request_line && bytes.size() > kTargetLimitBytes + 64) refuse_target_size();
  if (bytes.size() >= kHeadLimitBytes) {
    throw Error(ErrorCode::headers_too_large, fmt::format("the header is over the limit of {} bytes", kHeadLimitBytes));
  }
  return std::nullopt;
}

RequestHead parse_head(std::string_view block) {
  CORTEX_CHECK(block.ends_with(kHeadEnd));
  const std::size_t line_end = block.find(kLineEnd);
  const std::size_t fields_start = line_end + kLineEnd.size();
  RequestHead head;
  read_request_line(block.substr(0, line_end), &head);
  const std::vector<Field> fields =
      read_fields(block.substr(fields_start, block.size() - fields_start - kLineEnd.size()));
  read_framing(fields, &head);
  read_connection(fields, &head);
  read_expectation(fields, &head);

  const auto host = single(fields, "Host");
  if (!host) refuse_header("Host is missing");
  head.host = *host;
  if (const auto origin = single(fields, "Origin")) head.origin = *origin;
  head.authorization = single_or_empty(fields, "Authorization");
  head.api_key = single_or_empty(fields, "x-api-key");
  head.content_type = single_or_empty(fields, "Content-Type");
  head.has_content_encoding = single(fields, "Content-Encoding").has_value();
  head.request_id = request_id_of(fields);
  return head;
}

bool is_own_host(std::string_view host, std::span<const std::string> names) {
  const auto name = without_port(host);
  if (!name || name->empty()) return false;
  constexpr std::array<std::string_view, 3> kLoopback = {"localhost", "127.0.0.1", "[::1]"};
  const auto is_name = [&](std::string_view own) { return equal_ignoring_case(*name, own); };
  return std::any_of(kLoopback.begin(), kLoopback.end(), is_name) || std::any_of(names.begin(), names.end(), is_name);
}

void check_host_and_origin(const RequestHead& head, bool loopback, std::span<const std::string> names) {
  if (loopback && !is_own_host(head.host, names)) {
    throw Error(
        ErrorCode::host_not_allowed,
        fmt::format("Host {} is not served here; localhost is, and names that are configured", excerpt(head.host)));
  }
  if (!head.origin) return;
  const std::string_view authority = authority_of(*head.origin);
  if (is_own_host(authority, names)) return;
  if (!loopback && !authority.empty() && equal_ignoring_case(authority, head.host)) return;
  throw Error(ErrorCode::origin_not_allowed,
              fmt::format("Origin {} may not call this server from a browser", excerpt(*head.origin)));
}

void check_content(const RequestHead& head, std::uint64_t body_limit_bytes) {
  if (head.has_content_encoding) {
    throw Error(ErrorCode::unsupported_media_type, "Content-Encoding is not supported; send plain application/json");
  }
  if (head.method == "POST") {
    if (!is_json(head.content_type)) {
      throw Error(ErrorCode::unsupported_media_type,
                  fmt::format("Content-Type {} is not supported; send application/json", excerpt(head.content_type)));
    }
    if (!head.chunked && !head.content_length) {
      throw Error(ErrorCode::length_required, "POST application/json needs a Content-Length or chunks");
    }
  }
  if (head.content_length.value_or(0) > body_limit_bytes) throw body_too_large(body_limit_bytes);
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

Error body_too_large(std::uint64_t body_limit_bytes) {
  constexpr std::uint64_t kMebibyte = 1 << 20;
  const std::string limit = body_limit_bytes % kMebibyte == 0 ? fmt::format("{} MiB", body_limit_bytes / kMebibyte)
                                                              : fmt::format("{} bytes", body_limit_bytes);
  return Error(ErrorCode::request_too_large, fmt::format("the body is over the limit {}", limit));
}

}  // namespace cortex
