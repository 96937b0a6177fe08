#include "http/dialect/message_fields.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "http/dialect/fields.h"
#include "http/error_reply.h"

namespace cortex {
namespace {

constexpr std::size_t kMostMessages = 2048;

std::string read_part(const JsonValue& part, bool may_be_image, UnknownFields unknown) {
  const std::string type = part.require("type").string();
  if (type == "text") {
    if (unknown == UnknownFields::refused) part.refuse_unknown({"type", "text"});
    return part.require("text").string();
  }
  if (type != "image_url" || !may_be_image) {
    throw part.require("type").error(ErrorCode::invalid_value,
                                     fmt::format("unknown part {}; {} possible", excerpt(type),
                                                 may_be_image ? "text and image_url are" : "text is"));
  }
  const JsonValue image = part.require("image_url");
  const std::string url = image.require("url").string();
  if (unknown == UnknownFields::refused) {
    part.refuse_unknown({"type", "image_url"});
    image.refuse_unknown({"url", "detail"});
  }
  if (!url.starts_with("data:")) throw part.error(ErrorCode::remote_media_disabled, "only data: URIs are read");
  throw part.error(ErrorCode::model_not_capable, "no model here can see images");
}

std::string read_content(const JsonValue& content, bool may_hold_images, UnknownFields unknown) {
  if (content.is_string()) return content.string();
  if (!content.is_array()) throw content.error(ErrorCode::invalid_type, "a string or an array of parts is wanted");
  std::string text;
  for (const JsonValue& part : content.items()) text += read_part(part, may_hold_images, unknown);
  return text;
}

bool is_empty_array(const JsonValue& value) { return value.is_array() && value.items().empty(); }

ToolCall read_call(const JsonValue& call, UnknownFields unknown) {
  if (unknown == UnknownFields::refused) call.refuse_unknown({"id", "type", "function", "index"});
  const JsonValue type = call.require("type");
  if (type.string() != "function") {
    throw type.error(ErrorCode::invalid_value, fmt::format("unknown {}; function is possible", excerpt(type.string())));
  }
  const JsonValue function = call.require("function");
  if (unknown == UnknownFields::refused) function.refuse_unknown({"name", "arguments"});
  const JsonValue name = function.require("name");
  ToolCall read{call.require("id").string(), name.string(), function.require("arguments").string()};
  if (read.name.empty()) throw name.error(ErrorCode::invalid_value, "is empty");
  return read;
}

void read_calls(const JsonValue& message, UnknownFields unknown, Message* read) {
  const auto calls = message.get("tool_calls");
  if (!calls || is_empty_array(*calls)) return;
  if (read->role != "assistant") throw calls->error(ErrorCode::invalid_value, "only an assistant's message has calls");
  for (const JsonValue& call : calls->items()) read->tool_calls.push_back(read_call(call, unknown));
}

Message read_message(const JsonValue& message, UnknownFields unknown) {
  if (unknown == UnknownFields::refused) {
    message.refuse_unknown({"role", "content", "name", "reasoning_content", "reasoning", "tool_calls", "tool_call_id"});
  }
  const JsonValue role = message.require("role");
  Message read{role.string(), {}};
  if (read.role == "developer") read.role = "system";
  if (read.role != "system" && read.role != "user" && read.role != "assistant" && read.role != "tool") {
    throw role.error(ErrorCode::invalid_value,
                     fmt::format("unknown role {}; one of system, user, assistant, tool", excerpt(read.role)));
  }
  optional_string(message, "name");
  const auto older_call = message.get("function_call");
  if (older_call && !is_empty_array(*older_call)) {
    refuse_unsupported(message.path() + ".function_call", "not supported; tool_calls are");
  }
  read_calls(message, unknown, &read);
  for (const char* field : {"reasoning", "reasoning_content"}) {
    const auto reasoning = optional_string(message, field);
    if (reasoning && read.role == "assistant") read.reasoning = *reasoning;
  }
  if (read.role == "tool") read.tool_call_id = message.require("tool_call_id").string();
  const auto content = message.get("content");
  if (!content && read.role == "assistant") return read;
  read.content = read_content(message.require("content"), true, unknown);
  return read;
}

}  // namespace

std::string read_text_content(const JsonValue& content, UnknownFields unknown) {
  return read_content(content, false, unknown);
}

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
