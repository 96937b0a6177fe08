// What the data of an event in a stream of /v1/chat/completions says, as far as a load needs it. Text is found by a
// scan, since there is an event for every token; only an event with usage or an error is parsed. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cortex {

struct ChatUsage {
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt's
  std::int64_t output_tokens = 0;
};

struct ChatChunk {
  bool has_text = false;  // some that is not empty; reasoning counts
  bool is_done = false;   // the stream is complete
  std::string finish_reason;
  std::optional<ChatUsage> usage;
  std::string error;  // the message of one
};

// Data that is no JSON where it is parsed is an error.
ChatChunk read_chat_chunk(std::string_view data);

}  // namespace cortex
