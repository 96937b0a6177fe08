// The `messages` of chat requests, read and checked. Pure functions; any thread.
#pragma once

#include <string>
#include <vector>

#include "http/json_body.h"
#include "service/conversations.h"

namespace cortex {

enum class UnknownFields { refused, ignored };

// Throws Error for whatever is wrong with `messages`.
std::vector<Message> read_messages(const JsonValue& body, UnknownFields unknown);

// A string, or an array of parts that are texts.
std::string read_text_content(const JsonValue& content, UnknownFields unknown);

}  // namespace cortex
