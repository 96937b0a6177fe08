// Tools that a chat offers a model, and the calls of them that a model makes. Plain values.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace cortex {

struct Tool {
  std::string name;
  std::string definition;  // the whole tool as the client wrote it, JSON
  std::string parameters;  // its schema, JSON; any object where the tool has none
  bool strict = false;     // a call keeps to the schema also where it need not come
  std::string param;       // of the request, that holds the schema
};

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON

  // The same to who reads it: a client may give calls ids of its own.
  bool operator==(const ToolCall& other) const { return name == other.name && arguments == other.arguments; }
};

enum class ToolUse {
  none,       // no call may come
  automatic,  // the model chooses
  required    // at least one call comes
};

struct ToolChoice {
  ToolUse use = ToolUse::automatic;
  std::optional<std::vector<std::string>> names;  // those that may be called; absent: all
};

}  // namespace cortex
