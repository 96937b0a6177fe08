// Server-sent events as bytes. Pure functions; any thread. Neither "id:" nor "retry:" is ever sent: no stream can be
// resumed, and some clients stumble over either.
#pragma once

#include <string>
#include <string_view>

#include "http/exchange.h"

namespace cortex {

// One event with `json` (one line, as JsonWriter makes it) as its data. U+0085, U+2028 and U+2029, which some readers
// take for line ends, become escapes, which inside JSON's strings mean the same.
std::string sse_event(std::string_view json);

// The same with an event name of our own.
std::string sse_event(std::string_view name, std::string_view json);

// A comment that says the stream is alive.
std::string_view sse_ping();

// How OpenAI's streams, and ours, end.
std::string_view sse_done();

HttpHeaders sse_headers();

}  // namespace cortex
