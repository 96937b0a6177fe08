// Finds calls of tools in a model's text as it comes. Each way of writing them is a class of its own below this one
// interface: what opens a block of calls, and how it goes on. Text outside blocks is content, and so is a block that
// turns out to be none. One for each text; one thread at a time.
//
// Invariants: (1) the pieces, those of a kind that touch joined, do not depend on how the text is cut; (2) outside
// blocks no byte is held back unless it may begin a mark, or is white space that may stand before one; (3) a special
// token that is a mark never becomes content; (4) the arguments of a call are valid JSON, unless its block was certain.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "service/json_call.h"
#include "service/reply_piece.h"

namespace cortex {

// A text that means something in a reply.
struct Mark {
  std::string text;
  bool special = false;  // written by a special token, so that no content holds it
};

struct CallRules {
  std::vector<std::string> names;  // that a call may have
  // A grammar sees to it that a block is what it should be: it is told as it comes. Otherwise once it is whole.
  bool certain = false;
};

class CallReader {
 public:
  virtual ~CallReader() = default;
  CallReader(const CallReader&) = delete;
  CallReader& operator=(const CallReader&) = delete;

  void push(std::string_view text, ReplyPieces* pieces);
  // The end of the text.
  void finish(ReplyPieces* pieces);
  // Of the text that has come and is not told.
  std::size_t held_characters() const;

 protected:
  CallReader(CallRules rules, std::vector<Mark> openings, std::vector<Mark> others);

  const std::vector<std::string>& names() const { return rules_.names; }
  // Those that open a block where nothing but white space stands before them.
  void open_at_start_with(std::vector<std::string> openings) { at_start_ = std::move(openings); }

  // A block begins: its opening is behind.
  virtual void open(std::string_view opening) = 0;
  // Its next byte, which may fail it: then that byte is no part of it.
  virtual Progress read(char c, ReplyPieces* pieces) = 0;
  // The text ends here. Whether the block is whole.
  virtual bool may_end(ReplyPieces* pieces) = 0;

 private:
  void take_text(char c, ReplyPieces* pieces);
  bool find_opening();
  bool begins_mark(std::string_view text) const;
  bool may_go_on(std::string_view text) const;
  void begin_block(std::string opening, bool special);
  void take_block(char c, ReplyPieces* pieces);
  void close_block(ReplyPieces* pieces);
  void fail_block(ReplyPieces* pieces);
  void show(std::string_view text, ReplyPieces* pieces);
  void show_blanks(ReplyPieces* pieces);

  CallRules rules_;
  std::vector<Mark> openings_;
  std::vector<Mark> others_;  // special tokens that mean something in blocks alone
  std::vector<std::string> at_start_;
  bool in_block_ = false;
  bool has_told_ = false;   // pieces of the block, which is certain, are out
  bool seen_call_ = false;  // no text has come since
  bool seen_text_ = false;
  std::string blanks_;  // white space that a block may follow
  std::string held_;    // what may become an opening
  std::string block_;   // all of the block that would be content
  ReplyPieces told_;    // pieces of the block, until it is whole
};

}  // namespace cortex
