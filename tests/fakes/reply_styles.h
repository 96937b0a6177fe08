// How models that speak each call format write calls and reasoning, for tests. Pure; any thread.
#pragma once

#include <functional>

#include "service/reply_style.h"

namespace cortex {

// `mark` says whether a special token writes the text.
inline ReplyStyle style_with(CallFormat format, const std::function<StyleMark(const char*)>& mark) {
  ReplyStyle style;
  style.calls = format;
  switch (format) {
    case CallFormat::hermes:
      style.openings = {mark("<tool_call>")};
      style.others = {mark("</tool_call>")};
      break;
    case CallFormat::json:
      style.openings = {mark("<|python_tag|>")};
      break;
    case CallFormat::mistral:
    case CallFormat::mistral_named:
      style.openings = {mark("[TOOL_CALLS]")};
      style.others = {mark("[CALL_ID]"), mark("[ARGS]")};
      break;
    case CallFormat::function_gemma:
      style.openings = {mark("<start_function_call>")};
      style.others = {mark("<end_function_call>"), mark("<escape>")};
      break;
  }
  style.reasoning = ReasoningMarks{mark("<think>"), mark("</think>")};
  return style;
}

}  // namespace cortex
