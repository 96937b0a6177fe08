// What a chat request says of tools, of its reply's format and of what the reply may say, read and checked. Pure
// functions; any thread.
#pragma once

#include <optional>
#include <string>

#include "http/dialect/message_fields.h"
#include "http/json_body.h"
#include "service/chat.h"

namespace cortex {

// `tools`, `tool_choice` and `parallel_tool_calls`. Throws Error as JsonValue does, invalid_value, and invalid_schema
// or unsupported_schema for a tool's parameters.
void read_tools(const JsonValue& body, UnknownFields unknown, ChatRequest* chat);

// `response_format`; nothing for text. Throws Error as JsonValue does, invalid_value, invalid_schema,
// unsupported_schema, invalid_grammar.
std::optional<OutputFormat> read_response_format(const JsonValue& body, UnknownFields unknown);

// `prediction`: the text of {"type":"content","content":...}, or none.
std::string read_prediction(const JsonValue& body, UnknownFields unknown);

// Whether a model that thinks may do so, as far as the request says: chat_template_kwargs and reasoning_effort.
bool read_may_think(const JsonValue& body);

}  // namespace cortex
