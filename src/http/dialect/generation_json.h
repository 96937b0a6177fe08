// The parts of generated replies that look the same in several dialects. Pure functions; any thread.
#pragma once

#include <string_view>
#include <vector>

#include "base/json_writer.h"
#include "service/generation.h"

namespace cortex {

std::string_view name_of(FinishReason reason);

// A log-probability as JSON can say it: -9999 for minus infinity.
float finite_logprob(float logprob);

// {"content":[{"token","logprob","bytes","top_logprobs"}]}
void write_chat_logprobs(JsonWriter& json, const std::vector<TokenText>& tokens);

// {"queue_ms",...}, with "cache" where it is to be explained.
void write_timings(JsonWriter& json, const GenerationEnd& end);

}  // namespace cortex
