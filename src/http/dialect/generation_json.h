// The parts of generated replies that look the same in several dialects. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json_writer.h"
#include "service/conversations.h"
#include "service/generation.h"

namespace cortex {

// "tool_calls" for a text that has come to its end and has called tools.
std::string_view name_of(FinishReason reason, bool called_tools = false);

// A log-probability as JSON can say it: -9999 for minus infinity.
float finite_logprob(float logprob);

// {"content":[{"token","logprob","bytes","top_logprobs"}]}
void write_chat_logprobs(JsonWriter& json, const std::vector<TokenText>& tokens);

// The members of a message that a model has made: role, content, and reasoning and calls where there are some.
void write_reply_fields(JsonWriter& json, const ChoiceEnd& choice);

// A stored message, as a chat's requests have them.
void write_message(JsonWriter& json, const Message& message);

// A stream's deltas for what an event tells, each a JSON object: reasoning, content, then calls. One at least.
std::vector<std::string> chat_deltas(const GenerationEvent& event);

// {"reasoning_tokens","accepted_prediction_tokens","rejected_prediction_tokens"}
void write_completion_details(JsonWriter& json, const GenerationUsage& usage);

// {"queue_ms",...}, with "cache" where it is to be explained.
void write_timings(JsonWriter& json, const GenerationEnd& end);

}  // namespace cortex
