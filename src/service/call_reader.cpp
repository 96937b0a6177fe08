#include "service/call_reader.h"

#include <algorithm>

#include "service/choice_text.h"

namespace cortex {

CallReader::CallReader(CallRules rules, std::vector<Mark> openings, std::vector<Mark> others)
    : rules_(std::move(rules)), openings_(std::move(openings)), others_(std::move(others)) {}

void CallReader::push(std::string_view text, ReplyPieces* pieces) {
  for (const char c : text) in_block_ ? take_block(c, pieces) : take_text(c, pieces);
}

void CallReader::finish(ReplyPieces* pieces) {
  if (in_block_) {
    ReplyPieces* to = rules_.certain ? pieces : &told_;
    // Of a certain block that the end cuts off, what has been told stays a call.
    const bool is_call = may_end(to) || has_told_;
    is_call ? close_block(pieces) : fail_block(pieces);
  }
  if (!held_.empty()) show(std::exchange(held_, {}), pieces);
  // White space behind calls is a part of how they are written.
  if (!seen_call_) show_blanks(pieces);
}

std::size_t CallReader::held_characters() const {
  return count_characters(blanks_) + count_characters(held_) + count_characters(block_);
}

void CallReader::take_text(char c, ReplyPieces* pieces) {
  if (held_.empty() && is_blank(c)) {
    blanks_ += c;
    return;
  }
  held_ += c;
  while (!held_.empty() && !find_opening() && !may_go_on(held_)) {
    show(held_.substr(0, 1), pieces);
    held_.erase(0, 1);
    while (!held_.empty() && is_blank(held_.front())) {
      blanks_ += held_.front();
      held_.erase(0, 1);
    }
  }
}

// Whether what is held is a mark; then it is taken.
bool CallReader::find_opening() {
  const auto is_held = [&](const Mark& mark) { return mark.text == held_; };
  const auto opening = std::find_if(openings_.begin(), openings_.end(), is_held);
  if (opening != openings_.end()) {
    begin_block(std::exchange(held_, {}), opening->special);
    return true;
  }
  if (std::any_of(others_.begin(), others_.end(), is_held)) {
    held_.clear();
    return true;
  }
  if (seen_text_ || seen_call_ || std::find(at_start_.begin(), at_start_.end(), held_) == at_start_.end()) return false;
  begin_block(std::exchange(held_, {}), false);
  return true;
}

bool CallReader::begins_mark(std::string_view text) const {
  const auto begins = [&](const Mark& mark) { return mark.text.starts_with(text); };
  return std::any_of(openings_.begin(), openings_.end(), begins) || std::any_of(others_.begin(), others_.end(), begins);
}

bool CallReader::may_go_on(std::string_view text) const {
  const bool at_start = !seen_text_ && !seen_call_;
  return begins_mark(text) ||
         (at_start && std::any_of(at_start_.begin(), at_start_.end(),
                                  [&](const std::string& opening) { return opening.starts_with(text); }));
}

void CallReader::begin_block(std::string opening, bool special) {
  in_block_ = true;
  has_told_ = false;
  told_.clear();
  open(opening);
  block_ = special ? std::string() : std::move(opening);
}

void CallReader::take_block(char c, ReplyPieces* pieces) {
  ReplyPieces* to = rules_.certain ? pieces : &told_;
  const std::size_t before = to->size();
  const Progress progress = read(c, to);
  has_told_ = has_told_ || (rules_.certain && to->size() > before);
  if (progress == Progress::done) return close_block(pieces);
  block_ += c;
  if (progress == Progress::more) return;
  // What stands at its end may be the beginning of a mark, or a whole one.
  std::size_t begin = 0;
  while (begin + 1 < block_.size() && !begins_mark(std::string_view(block_).substr(begin))) ++begin;
  const std::string rest = block_.substr(begin);
  block_.erase(begin);
  const bool is_next = std::any_of(openings_.begin(), openings_.end(), [&](const Mark& m) { return m.text == rest; });
  const bool is_call = is_next && may_end(to);
  is_call ? close_block(pieces) : fail_block(pieces);
  push(rest, pieces);
}

void CallReader::close_block(ReplyPieces* pieces) {
  in_block_ = false;
  seen_call_ = true;
  blanks_.clear();
  block_.clear();
  for (auto& piece : std::exchange(told_, {})) add_piece(pieces, piece.kind, piece.text);
}

void CallReader::fail_block(ReplyPieces* pieces) {
  in_block_ = false;
  told_.clear();
  std::string text = std::exchange(block_, {});
  for (const auto* marks : {&openings_, &others_}) {
    for (const Mark& mark : *marks) {
      if (!mark.special) continue;
      for (auto at = text.find(mark.text); at != std::string::npos; at = text.find(mark.text, at)) {
        text.erase(at, mark.text.size());
      }
    }
  }
  if (!text.empty()) show(text, pieces);
}

void CallReader::show(std::string_view text, ReplyPieces* pieces) {
  seen_text_ = true;
  seen_call_ = false;
  show_blanks(pieces);
  add_piece(pieces, PieceKind::content, text);
}

void CallReader::show_blanks(ReplyPieces* pieces) { add_piece(pieces, PieceKind::content, std::exchange(blanks_, {})); }

}  // namespace cortex
