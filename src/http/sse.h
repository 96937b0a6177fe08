// Server-sent events as bytes. Pure functions; any thread. Neither "id:" nor "retry:" is ever sent: no stream can be
// resumed, and some clients stumble over either.
#pragma once

#include <string>
#include <string_view>

#include "http/exchange.h"

namespace cortex {

// One event with `json` as its data, as JsonWriter makes it: one line, without those of Unicode's line ends either.
// Throws CheckFailure for a line end.
std::string sse_event(std::string_view json);

// The same with an event name of our own.
std::string sse_event(std::string_view name, std::string_view json);

// A comment that says the stream is alive.
std::string_view sse_ping();

// How OpenAI's streams, and ours, end.
std::string_view sse_done();

HttpHeaders sse_headers();

}  // namespace cortex
