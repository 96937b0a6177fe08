#include "http/sse.h"

#include "base/error.h"

namespace cortex {
std::string sse_event(std::string_view json) {
  CORTEX_CHECK(json.find('\n') == json.npos && json.find('\r') == json.npos);
  std::string event = "data: ";
  event += json;
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
