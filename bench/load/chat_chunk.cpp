#include "bench/load/chat_chunk.h"

#include <simdjson.h>

#include <algorithm>

namespace cortex {
namespace {

std::string_view without_leading_space(std::string_view text) {
  return text.substr(std::min(text.size(), text.find_first_not_of(" \t")));
}

// What follows the first key of this name, which is quoted ("content", with its quotes); empty if there is none. Inside
// of a string its last quote would have a backslash before it.
std::string_view value_after(std::string_view data, std::string_view key) {
  for (std::size_t at = data.find(key); at != std::string_view::npos; at = data.find(key, at + 1)) {
    const std::string_view rest = without_leading_space(data.substr(at + key.size()));
    if (rest.starts_with(':')) return without_leading_space(rest.substr(1));
  }
  return {};
}

bool is_string_with_text(std::string_view value) { return value.size() > 1 && value[0] == '"' && value[1] != '"'; }

std::int64_t integer_at(const simdjson::dom::element& root, std::string_view pointer) {
  std::int64_t value = 0;
  return root.at_pointer(pointer).get(value) == simdjson::SUCCESS ? value : 0;
}

std::string message_of(const simdjson::dom::element& root) {
  std::string_view message;
  for (const char* pointer : {"/error/message", "/error", "/message"}) {
    if (root.at_pointer(pointer).get(message) == simdjson::SUCCESS) return std::string(message);
  }
  return "an error without a message";
}

void parse(std::string_view data, ChatChunk* chunk) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(data.data(), data.size()).get(root) != simdjson::SUCCESS) {
    chunk->error = "an event that is no JSON";
    return;
  }
  simdjson::dom::element ignored;
  if (root.at_pointer("/error").get(ignored) == simdjson::SUCCESS && !ignored.is_null()) {
    chunk->error = message_of(root);
  }
  if (root.at_pointer("/usage/prompt_tokens").get(ignored) != simdjson::SUCCESS) return;
  chunk->usage = ChatUsage{.prompt_tokens = integer_at(root, "/usage/prompt_tokens"),
                           .cached_tokens = integer_at(root, "/usage/prompt_tokens_details/cached_tokens"),
                           .output_tokens = integer_at(root, "/usage/completion_tokens")};
}

}  // namespace

ChatChunk read_chat_chunk(std::string_view data) {
  ChatChunk chunk;
  if (data == "[DONE]") {
    chunk.is_done = true;
    return chunk;
  }
  for (const char* key : {"\"content\"", "\"reasoning_content\"", "\"reasoning\""}) {
    chunk.has_text = chunk.has_text || is_string_with_text(value_after(data, key));
  }
  if (const std::string_view finish = value_after(data, "\"finish_reason\""); is_string_with_text(finish)) {
    chunk.finish_reason = finish.substr(1, finish.find('"', 1) - 1);
  }
  const bool has_usage = value_after(data, "\"usage\"").starts_with('{');
  const std::string_view error = value_after(data, "\"error\"");
  if (has_usage || (!error.empty() && !error.starts_with("null"))) parse(data, &chunk);
  return chunk;
}

}  // namespace cortex
