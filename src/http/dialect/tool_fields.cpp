#include "http/dialect/tool_fields.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/json_writer.h"
#include "http/dialect/fields.h"
#include "http/dialect/schema_check.h"
#include "http/error_reply.h"

namespace cortex {
namespace {

constexpr std::size_t kMostTools = 128;
constexpr std::size_t kLongestName = 64;
constexpr std::size_t kMostGrammarBytes = 1 << 20;

bool is_tool_name(std::string_view name) {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kLongestName && std::all_of(name.begin(), name.end(), is_allowed);
}

void require_function(const JsonValue& value) {
  const JsonValue type = value.require("type");
  const std::string name = type.string();
  if (name == "function") return;
  throw type.error(ErrorCode::invalid_value, fmt::format("unknown {}; function is possible", excerpt(name)));
}

// A schema as one of an object; a type of null says nothing, as one that is absent.
std::string with_object_type(const JsonValue& schema) {
  std::string json = R"({"type":"object")";
  for (const auto& [name, value] : schema.members()) {
    if (name != "type") json += fmt::format(",{}:{}", json_string(name), value.raw_json());
  }
  return json += '}';
}

// A schema of arguments is one of an object, whether it says so or not.
std::string read_parameters(const JsonValue& function) {
  const auto parameters = function.get("parameters");
  if (!parameters) return R"({"type":"object","properties":{}})";
  check_schema(*parameters);
  const auto type = parameters->get("type");
  if (!type) return with_object_type(*parameters);
  if (type->is_string() && type->string() == "object") return parameters->raw_json();
  throw type->error(ErrorCode::invalid_schema, "arguments are an object: \"object\" is wanted");
}

Tool read_tool(const JsonValue& tool, UnknownFields unknown) {
  if (unknown == UnknownFields::refused) tool.refuse_unknown({"type", "function"});
  require_function(tool);
  const JsonValue function = tool.require("function");
  if (!function.is_object()) throw function.error(ErrorCode::invalid_type, "an object is wanted");
  if (unknown == UnknownFields::refused) function.refuse_unknown({"name", "description", "parameters", "strict"});
  const JsonValue name = function.require("name");
  Tool read{name.string(), {}, {}, optional_boolean(function, "strict").value_or(false)};
  if (!is_tool_name(read.name)) {
    throw name.error(ErrorCode::invalid_value,
                     fmt::format("{} is no name; 1 to {} letters, digits, '_' and '-' are possible", excerpt(read.name),
                                 kLongestName));
  }
  optional_string(function, "description");
  read.parameters = read_parameters(function);
  read.param = function.path() + ".parameters";
  read.definition = tool.raw_json();
  return read;
}

std::string known_name(const std::vector<Tool>& tools, const JsonValue& name) {
  std::string text = name.string();
  const auto same = [&](const Tool& tool) { return tool.name == text; };
  if (std::any_of(tools.begin(), tools.end(), same)) return text;
  throw name.error(ErrorCode::invalid_value, fmt::format("no tool has the name {}", excerpt(text)));
}

std::string read_named(const std::vector<Tool>& tools, const JsonValue& value, UnknownFields unknown) {
  require_function(value);
  const JsonValue function = value.require("function");
  const JsonValue name = function.require("name");
  if (unknown == UnknownFields::refused) {
    value.refuse_unknown({"type", "function"});
    function.refuse_unknown({"name"});
  }
  return known_name(tools, name);
}

std::optional<ToolUse> use_of(std::string_view name) {
  if (name == "none") return ToolUse::none;
  if (name == "auto") return ToolUse::automatic;
  if (name == "required") return ToolUse::required;
  return std::nullopt;
}

ToolChoice read_allowed(const std::vector<Tool>& tools, const JsonValue& choice, UnknownFields unknown) {
  const JsonValue allowed = choice.require("allowed_tools");
  const JsonValue mode = allowed.require("mode");
  if (unknown == UnknownFields::refused) {
    choice.refuse_unknown({"type", "allowed_tools"});
    allowed.refuse_unknown({"mode", "tools"});
  }
  const auto use = use_of(mode.string());
  if (!use || *use == ToolUse::none) {
    throw mode.error(ErrorCode::invalid_value,
                     fmt::format("unknown {}; one of auto, required", excerpt(mode.string())));
  }
  ToolChoice read{*use, std::vector<std::string>()};
  const JsonValue list = allowed.require("tools");
  for (const JsonValue& tool : list.items()) read.names->push_back(read_named(tools, tool, unknown));
  if (read.names->empty()) throw list.error(ErrorCode::invalid_value, "is empty");
  return read;
}

ToolChoice read_choice(const std::vector<Tool>& tools, const JsonValue& choice, UnknownFields unknown) {
  if (choice.is_string()) {
    const auto use = use_of(choice.string());
    if (use) return {*use, std::nullopt};
    throw choice.error(ErrorCode::invalid_value,
                       fmt::format("unknown {}; one of none, auto, required", excerpt(choice.string())));
  }
  if (!choice.is_object()) throw choice.error(ErrorCode::invalid_type, "a string or an object is wanted");
  const JsonValue type = choice.require("type");
  if (type.string() == "allowed_tools") return read_allowed(tools, choice, unknown);
  if (type.string() == "function") return {ToolUse::required, std::vector{read_named(tools, choice, unknown)}};
  throw type.error(ErrorCode::invalid_value,
                   fmt::format("unknown {}; one of function, allowed_tools", excerpt(type.string())));
}

void require_few_bytes(const JsonValue& value, std::size_t bytes, ErrorCode code) {
  if (bytes <= kMostGrammarBytes) return;
  throw value.error(code, fmt::format("has {} bytes; at most {}", bytes, kMostGrammarBytes));
}

OutputFormat read_schema_format(const JsonValue& format, UnknownFields unknown) {
  const JsonValue holder = format.require("json_schema");
  if (!holder.is_object()) throw holder.error(ErrorCode::invalid_type, "an object is wanted");
  if (unknown == UnknownFields::refused) holder.refuse_unknown({"name", "description", "schema", "strict"});
  for (const char* field : {"name", "description"}) optional_string(holder, field);
  optional_boolean(holder, "strict");
  const JsonValue schema = holder.require("schema");
  check_schema(schema);
  OutputFormat read{GrammarSyntax::json_schema, schema.raw_json(), schema.path()};
  require_few_bytes(schema, read.text.size(), ErrorCode::unsupported_schema);
  return read;
}

OutputFormat read_grammar_format(const JsonValue& format) {
  const JsonValue syntax = format.require("syntax");
  const std::string name = syntax.string();
  if (name != "lark" && name != "regex") {
    throw syntax.error(ErrorCode::invalid_value, fmt::format("unknown {}; one of lark, regex", excerpt(name)));
  }
  const JsonValue definition = format.require("definition");
  OutputFormat read{name == "lark" ? GrammarSyntax::lark : GrammarSyntax::regex, definition.string(),
                    definition.path()};
  if (read.text.empty()) throw definition.error(ErrorCode::invalid_grammar, "is empty");
  require_few_bytes(definition, read.text.size(), ErrorCode::invalid_grammar);
  return read;
}

}  // namespace

void read_tools(const JsonValue& body, UnknownFields unknown, ChatRequest* chat) {
  chat->parallel_tool_calls = optional_boolean(body, "parallel_tool_calls").value_or(true);
  if (const auto list = body.get("tools")) {
    const std::vector<JsonValue> items = list->items();
    if (items.size() > kMostTools) {
      throw list->error(ErrorCode::invalid_value, fmt::format("has {} entries; at most {}", items.size(), kMostTools));
    }
    for (const JsonValue& item : items) {
      Tool tool = read_tool(item, unknown);
      const auto same = [&](const Tool& other) { return other.name == tool.name; };
      if (std::any_of(chat->tools.begin(), chat->tools.end(), same)) {
        throw item.require("function")
            .require("name")
            .error(ErrorCode::invalid_value, fmt::format("another tool has the name {}", excerpt(tool.name)));
      }
      chat->tools.push_back(std::move(tool));
    }
  }
  const auto choice = body.get("tool_choice");
  if (!choice) return;
  chat->tool_choice = read_choice(chat->tools, *choice, unknown);
  // Who names a function wants a call of it.
  if (choice->is_object() && choice->require("type").string() == "function") chat->parallel_tool_calls = false;
  if (chat->tools.empty() && chat->tool_choice.use == ToolUse::required) {
    throw choice->error(ErrorCode::invalid_value, "a call is demanded, but there are no tools");
  }
}

std::optional<OutputFormat> read_response_format(const JsonValue& body, UnknownFields unknown) {
  const auto format = body.get("response_format");
  if (!format) return std::nullopt;
  const JsonValue type = format->require("type");
  const std::string name = type.string();
  if (unknown == UnknownFields::refused) format->refuse_unknown({"type", "json_schema", "syntax", "definition"});
  if (name == "text") return std::nullopt;
  if (name == "json_object") return OutputFormat{GrammarSyntax::json_schema, R"({"type":"object"})", "response_format"};
  if (name == "json_schema") return read_schema_format(*format, unknown);
  if (name == "grammar") return read_grammar_format(*format);
  throw type.error(ErrorCode::invalid_value,
                   fmt::format("unknown {}; one of text, json_object, json_schema, grammar", excerpt(name)));
}

std::string read_prediction(const JsonValue& body, UnknownFields unknown) {
  const auto prediction = body.get("prediction");
  if (!prediction) return {};
  const JsonValue type = prediction->require("type");
  if (unknown == UnknownFields::refused) prediction->refuse_unknown({"type", "content"});
  if (type.string() != "content") {
    throw type.error(ErrorCode::invalid_value, fmt::format("unknown {}; content is possible", excerpt(type.string())));
  }
  return read_text_content(prediction->require("content"), unknown);
}

bool read_may_think(const JsonValue& body) {
  const auto arguments = body.get("chat_template_kwargs");
  const auto says_no = [&](const char* name) {
    const auto value = arguments ? arguments->get(name) : std::nullopt;
    return value && value->kind() == JsonKind::boolean && !value->boolean();
  };
  const auto effort = optional_string(body, "reasoning_effort");
  return !says_no("enable_thinking") && !says_no("thinking") && effort != "none";
}

}  // namespace cortex
