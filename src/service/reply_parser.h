// Tells reasoning, content and calls of tools apart in a model's text as it comes. One for each text; one thread at a
// time. The pieces, those of a kind that touch joined, do not depend on how the text is cut.
//
// Reasoning stands at the beginning, between its marks; white space around it is no part of it, nor of the content.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "service/call_reader.h"
#include "service/reply_piece.h"
#include "service/reply_style.h"

namespace cortex {

// Where the prompt leaves a model that reasons.
enum class Reasoning {
  off,  // it does not reason, or the prompt has closed it
  may_come,
  open  // the prompt has opened it
};

struct ReplyRules {
  Reasoning reasoning = Reasoning::off;
  std::optional<CallRules> calls;  // absent: none is looked for
  bool one_call = false;           // nothing is told behind the first
  bool only_calls = false;         // content can't come, nor stop strings in it
};

class ReplyParser {
 public:
  ReplyParser(const ReplyStyle& style, const ReplyRules& rules);

  ReplyPieces push(std::string_view text);
  // The end of the text.
  ReplyPieces finish();

  // It is open yet whether the text begins with reasoning.
  bool is_undecided() const { return stage_ == Stage::before; }
  bool is_reasoning() const { return stage_ == Stage::reasoning; }
  // Of the text that has come and is not told.
  std::size_t held_characters() const;
  // The one call that is wanted is there.
  bool is_over() const { return over_; }

 private:
  enum class Stage { before, reasoning, behind, reply };

  void take_beginning(std::string_view* text);
  void take_reasoning(std::string_view* text, ReplyPieces* pieces);
  void take_reply(std::string_view text, ReplyPieces* pieces);
  std::string without_marks(std::string_view text);
  void cut(ReplyPieces* pieces);

  std::string open_, close_;  // marks of reasoning
  Stage stage_ = Stage::reply;
  std::string held_;                        // what may become a mark, and white space before it
  bool begun_ = false;                      // some reasoning has been told
  std::vector<std::string> special_marks_;  // of reasoning; they mean nothing in the reply and are no part of it
  std::string unread_;                      // of the reply, what may become one
  std::unique_ptr<CallReader> calls_;
  bool one_call_;
  bool over_ = false;
};

}  // namespace cortex
