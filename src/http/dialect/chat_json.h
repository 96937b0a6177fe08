// A native chat's reply as JSON, whole and in the chunks of a stream. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "service/generation.h"

namespace cortex {

// What every object of one reply begins with.
struct ChatEnvelope {
  std::string id;
  std::int64_t created_s = 0;  // Unix time
  std::string model;
  std::optional<std::string> conversation_id;
  bool logprobs = false;
};

std::string chat_reply(const ChatEnvelope& envelope, const GenerationEnd& end);

// A stream: the role, then the text and what is beside it, then the end.
std::string first_chat_chunk(const ChatEnvelope& envelope);
std::vector<std::string> chat_chunks(const ChatEnvelope& envelope, const GenerationEvent& event);
std::string last_chat_chunk(const ChatEnvelope& envelope, const GenerationEnd& end);

}  // namespace cortex
