// The fields of generating requests that the dialects share, read and checked. Pure functions; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "http/exchange.h"
#include "http/json_body.h"
#include "service/generation_options.h"

namespace cortex {

inline constexpr int kMostTopLogprobs = 20;

// Sampling, logit_bias, explain, priority, timeout_s, cache_salt, and whose request it is. Throws Error as JsonValue
// does, and invalid_value or invalid_token_id.
GenerationOptions read_generation_options(const JsonValue& body, const HttpRequest& request);

// A string or up to `most` of them, each of 1 to 256 bytes. Throws Error invalid_type or invalid_value.
std::vector<std::string> read_stops(const JsonValue& body, std::size_t most);

// How many alternatives are told beside each token of a chat. Throws Error invalid_value without `logprobs`.
int read_top_logprobs(const JsonValue& body, bool logprobs);

// What a template may be told beside the conversation, as a JSON object: chat_template_kwargs, which holds scalars
// under known names, and reasoning_effort, unless that is in it already. Throws Error invalid_type or invalid_value,
// chat_template_not_allowed for a template of the client's.
std::string read_template_arguments(const JsonValue& body);

}  // namespace cortex
