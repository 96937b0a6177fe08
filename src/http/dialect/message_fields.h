// The `messages` of chat requests, read and checked. Pure functions; any thread.
#pragma once

#include <vector>

#include "http/json_body.h"
#include "service/conversations.h"

namespace cortex {

enum class UnknownFields { refused, ignored };

// Throws Error for whatever is wrong with `messages`, and unsupported_parameter for tools in them.
std::vector<Message> read_messages(const JsonValue& body, UnknownFields unknown);

}  // namespace cortex
