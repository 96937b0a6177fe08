// The grammar of a whole reply: what a client's format or its tools' schemas demand, written as the model writes it,
// and what may stand before, such as reasoning. In llguidance's dialect of Lark: github.com/guidance-ai/llguidance.
// Pure functions; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "service/output_format.h"
#include "service/reply_parser.h"
#include "service/reply_style.h"
#include "service/tool_call.h"

namespace cortex {

struct ReplyDemands {
  Reasoning reasoning = Reasoning::off;
  std::optional<OutputFormat> format;
  std::vector<Tool> tools;  // that may be called
  ToolUse use = ToolUse::none;
  bool one_call = false;
};

// Whether a grammar sees to it that calls are what they should be.
bool calls_are_certain(const ReplyDemands& demands);

struct ReplyGrammar {
  GrammarSyntax syntax = GrammarSyntax::lark;
  std::string text;
  std::map<int, std::string> params;  // of the request, by the line that they have become; 0: by all of it
};

// Nothing where a reply may be any text.
std::optional<ReplyGrammar> reply_grammar(const ReplyStyle& style, const ReplyDemands& demands);

// What the engine finds wrong with a grammar, told of the parameter that it comes from. Other errors stay as they are.
Error with_origin(const Error& error, const std::map<int, std::string>& params);

}  // namespace cortex
