// How a model writes what is no plain text: calls of tools and reasoning. Found from its chat template and its
// vocabulary when it is served. Plain values and pure functions; any thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "service/call_reader.h"
#include "text/tokenizer.h"

namespace cortex {

enum class CallFormat {
  hermes,          // see hermes_calls.h; also of models whose template knows no tools
  json,            // json_calls.h
  mistral,         // mistral_calls.h: a list
  mistral_named,   // the same: a name and arguments
  function_gemma,  // function_gemma_calls.h
};

struct StyleMark {
  std::string text;
  std::optional<TokenId> special;  // the special token that it is

  Mark mark() const { return {text, special.has_value()}; }
};

struct ReasoningMarks {
  StyleMark open, close;
};

struct ReplyStyle {
  CallFormat calls = CallFormat::hermes;
  bool one_call = false;            // its template can't show several calls of one message
  bool short_call_ids = false;      // its template wants ids of 9 letters and digits
  bool text_arguments = false;      // calls are shown with arguments as they were written, not as an object anew
  std::vector<StyleMark> openings;  // of blocks of calls; the first is the one that its template writes
  std::vector<StyleMark> others;    // within blocks
  std::optional<ReasoningMarks> reasoning;  // of models that reason

  // The special tokens whose text a reader of calls or of reasoning must see.
  std::vector<TokenId> shown(bool with_calls) const;
};

// `chat_template` is the template's source.
ReplyStyle find_reply_style(std::string_view chat_template, const Tokenizer& tokenizer);

std::unique_ptr<CallReader> make_call_reader(const ReplyStyle& style, CallRules rules);

}  // namespace cortex
