// A chat's reply as JSON, whole and in the chunks of a stream. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "service/chat.h"

namespace cortex {

// What every object of one reply begins with.
struct ChatEnvelope {
  std::string id;
  std::int64_t created_s = 0;  // Unix time
  std::string model;
  std::optional<std::string> conversation_id;
  bool logprobs = false;
};

std::string_view name_of(FinishReason reason);

std::string chat_reply(const ChatEnvelope& envelope, const ChatEnd& end);

// A stream: the role, then text, then the end.
std::string first_chat_chunk(const ChatEnvelope& envelope);
std::string chat_chunk(const ChatEnvelope& envelope, const ChatEvent& event);
std::string last_chat_chunk(const ChatEnvelope& envelope, const ChatEnd& end);

}  // namespace cortex
