#include "http/sse.h"

#include <array>
#include <utility>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kLineEnds = {{
    {"\xc2\x85", "\\u0085"},
    {"\xe2\x80\xa8", "\\u2028"},
    {"\xe2\x80\xa9", "\\u2029"},
}};

void append_line(std::string& out, std::string_view json) {
  CORTEX_CHECK(json.find_first_of("\r\n") == json.npos);
  std::size_t start = 0;
  while (start < json.size()) {
    const std::size_t at = json.find_first_of("\xc2\xe2", start);
    out += json.substr(start, at - start);
    if (at == json.npos) return;
    std::string_view escape = json.substr(at, 1);
    start = at + 1;
    for (const auto& [bytes, escaped] : kLineEnds) {
      if (!json.substr(at).starts_with(bytes)) continue;
      escape = escaped;
      start = at + bytes.size();
    }
    out += escape;
  }
}

}  // namespace

std::string sse_event(std::string_view json) {
  std::string event = "data: ";
  append_line(event, json);
  event += "\n\n";
  return event;
}

std::string sse_event(std::string_view name, std::string_view json) {
  std::string event = "event: ";
  event += name;
  event += '\n';
  event += sse_event(json);
  return event;
}

std::string_view sse_ping() { return ": ping\n\n"; }

std::string_view sse_done() { return "data: [DONE]\n\n"; }

HttpHeaders sse_headers() {
  return {
      {"content-type", "text/event-stream; charset=utf-8"}, {"cache-control", "no-store"}, {"x-accel-buffering", "no"}};
}

}  // namespace cortex
