#include "service/reply_style.h"

#include <array>
#include <utility>

#include "service/function_gemma_calls.h"
#include "service/hermes_calls.h"
#include "service/json_calls.h"
#include "service/mistral_calls.h"

namespace cortex {
namespace {

struct FormatMarks {
  CallFormat format;
  std::vector<const char*> openings, others;
};

const FormatMarks& marks_of(CallFormat format) {
  static const std::array<FormatMarks, 5> kAll = {{
      {CallFormat::hermes, {"<tool_call>"}, {"</tool_call>"}},
      {CallFormat::json, {"<|python_tag|>"}, {}},
      {CallFormat::mistral, {"[TOOL_CALLS]"}, {"[CALL_ID]", "[ARGS]"}},
      {CallFormat::mistral_named, {"[TOOL_CALLS]"}, {"[CALL_ID]", "[ARGS]"}},
      {CallFormat::function_gemma, {"<start_function_call>"}, {"<end_function_call>", "<escape>"}},
  }};
  return kAll.at(static_cast<std::size_t>(format));
}

CallFormat find_call_format(std::string_view source) {
  const auto has = [&](std::string_view text) { return source.find(text) != std::string_view::npos; };
  if (has("<start_function_call>")) return CallFormat::function_gemma;
  if (has("[TOOL_CALLS]")) return has("[ARGS]") ? CallFormat::mistral_named : CallFormat::mistral;
  if (has("<tool_call>") || !has("tools")) return CallFormat::hermes;
  // What a template tells a model to write, or writes itself.
  return has("\"parameters\"") ? CallFormat::json : CallFormat::hermes;
}

StyleMark style_mark(const Tokenizer& tokenizer, std::string_view text) {
  const auto id = tokenizer.token_id(text);
  return {std::string(text), id && tokenizer.is_special(*id) ? id : std::nullopt};
}

std::optional<ReasoningMarks> find_reasoning(std::string_view source, const Tokenizer& tokenizer) {
  constexpr std::array<std::pair<const char*, const char*>, 2> kMarks = {
      {{"<think>", "</think>"}, {"[THINK]", "[/THINK]"}}};
  for (const auto& [open, close] : kMarks) {
    if (source.find(close) == std::string_view::npos && !tokenizer.token_id(close)) continue;
    return ReasoningMarks{style_mark(tokenizer, open), style_mark(tokenizer, close)};
  }
  return std::nullopt;
}

}  // namespace

ReplyStyle find_reply_style(std::string_view chat_template, const Tokenizer& tokenizer) {
  ReplyStyle style;
  style.calls = find_call_format(chat_template);
  const FormatMarks& marks = marks_of(style.calls);
  for (const char* text : marks.openings) style.openings.push_back(style_mark(tokenizer, text));
  for (const char* text : marks.others) style.others.push_back(style_mark(tokenizer, text));
  const auto has = [&](std::string_view text) { return chat_template.find(text) != std::string_view::npos; };
  style.text_arguments = has("arguments is string") || (!has("tools") && !has("tool_calls"));
  style.one_call = has("single tool-calls");
  style.short_call_ids = has("length 9") || has("length != 9");
  style.reasoning = find_reasoning(chat_template, tokenizer);
  return style;
}

std::vector<TokenId> ReplyStyle::shown(bool with_calls) const {
  std::vector<TokenId> ids;
  const auto add = [&](const StyleMark& mark) {
    if (mark.special) ids.push_back(*mark.special);
  };
  if (reasoning) {
    add(reasoning->open);
    add(reasoning->close);
  }
  if (!with_calls) return ids;
  for (const auto& mark : openings) add(mark);
  for (const auto& mark : others) add(mark);
  return ids;
}

std::unique_ptr<CallReader> make_call_reader(const ReplyStyle& style, CallRules rules) {
  std::vector<Mark> openings, others;
  for (const auto& mark : style.openings) openings.push_back(mark.mark());
  // Where they are plain text, they mean nothing outside of blocks.
  for (const auto& mark : style.others) {
    if (mark.special) others.push_back(mark.mark());
  }
  switch (style.calls) {
    case CallFormat::hermes:
      break;
    case CallFormat::json:
      return std::make_unique<JsonCalls>(std::move(rules), std::move(openings), std::move(others));
    case CallFormat::mistral:
    case CallFormat::mistral_named:
      return std::make_unique<MistralCalls>(std::move(rules), std::move(openings), std::move(others));
    case CallFormat::function_gemma:
      return std::make_unique<FunctionGemmaCalls>(std::move(rules), std::move(openings), std::move(others));
  }
  return std::make_unique<HermesCalls>(std::move(rules), std::move(openings), std::move(others));
}

}  // namespace cortex
