#include "http/dialect/message_fields.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "http/dialect/fields.h"
#include "http/error_reply.h"

namespace cortex {
namespace {

constexpr std::size_t kMostMessages = 2048;

std::string read_content(const JsonValue& message) {
  const JsonValue content = message.require("content");
  if (content.is_string()) return content.string();
  if (!content.is_array()) throw content.error(ErrorCode::invalid_type, "a string or an array of parts is wanted");
  std::string text;
  for (const JsonValue& part : content.items()) {
    const std::string type = part.require("type").string();
    if (type == "text") {
      text += part.require("text").string();
    } else if (type == "image_url") {
      const std::string url = part.require("image_url").require("url").string();
      if (!url.starts_with("data:")) {
        throw part.error(ErrorCode::remote_media_disabled, "only data: URIs are read");
      }
      throw part.error(ErrorCode::model_not_capable, "no model here can see images");
    } else {
      throw part.require("type").error(ErrorCode::invalid_value,
                                       fmt::format("unknown part {}; one of text, image_url", excerpt(type)));
    }
  }
  return text;
}

bool is_empty_array(const JsonValue& value) { return value.is_array() && value.items().empty(); }

Message read_message(const JsonValue& message, UnknownFields unknown) {
  if (unknown == UnknownFields::refused) {
    message.refuse_unknown({"role", "content", "name", "reasoning_content", "reasoning", "tool_calls", "tool_call_id"});
  }
  const JsonValue role = message.require("role");
  std::string name = role.string();
  if (name == "developer") name = "system";
  // Of what a message may carry beside its text, only the types are looked at: templates here know no use for it.
  for (const char* field : {"name", "reasoning_content", "reasoning"}) optional_string(message, field);
  for (const char* field : {"tool_calls", "tool_call_id", "function_call"}) {
    const auto value = message.get(field);
    if (value && !is_empty_array(*value)) {
      refuse_unsupported(message.path() + "." + field, "tools are not supported yet");
    }
  }
  if (name == "tool") refuse_unsupported(role.path(), "tools are not supported yet");
  if (name != "system" && name != "user" && name != "assistant") {
    throw role.error(ErrorCode::invalid_value,
                     fmt::format("unknown role {}; one of system, user, assistant, tool", excerpt(name)));
  }
  return {std::move(name), read_content(message)};
}

}  // namespace

std::vector<Message> read_messages(const JsonValue& body, UnknownFields unknown) {
  const JsonValue list = body.require("messages");
  const std::vector<JsonValue> items = list.items();
  if (items.empty() || items.size() > kMostMessages) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("messages: has {} entries; 1 to {} are possible", items.size(), kMostMessages), "messages");
  }
  std::vector<Message> messages;
  messages.reserve(items.size());
  for (const JsonValue& item : items) messages.push_back(read_message(item, unknown));
  return messages;
}

}  // namespace cortex
