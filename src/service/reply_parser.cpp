#include "service/reply_parser.h"

#include <algorithm>
#include <utility>

#include "service/choice_text.h"

namespace cortex {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

std::string_view without_first_blanks(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kBlanks), text.size()));
}

// Of the end of `text` that may become `mark`.
std::size_t beginning_bytes(std::string_view text, std::string_view mark) {
  std::size_t size = std::min(text.size(), mark.size() - 1);
  while (size > 0 && !text.ends_with(mark.substr(0, size))) --size;
  return size;
}

// Where the end of `text` begins that may become `mark`, with the white space before it.
std::size_t certain_bytes(std::string_view text, std::string_view mark) {
  const auto last = text.substr(0, text.size() - beginning_bytes(text, mark)).find_last_not_of(kBlanks);
  return last == std::string_view::npos ? 0 : last + 1;
}

}  // namespace

ReplyParser::ReplyParser(const ReplyStyle& style, const ReplyRules& rules) : one_call_(rules.one_call) {
  if (style.reasoning && rules.reasoning != Reasoning::off) {
    open_ = style.reasoning->open.text;
    close_ = style.reasoning->close.text;
    stage_ = rules.reasoning == Reasoning::open ? Stage::reasoning : Stage::before;
  }
  if (style.reasoning) {
    for (const StyleMark& mark : {style.reasoning->open, style.reasoning->close}) {
      if (mark.special) special_marks_.push_back(mark.text);
    }
  }
  if (rules.calls) calls_ = make_call_reader(style, *rules.calls);
}

std::size_t ReplyParser::held_characters() const {
  return count_characters(held_) + count_characters(unread_) + (calls_ ? calls_->held_characters() : 0);
}

ReplyPieces ReplyParser::push(std::string_view text) {
  ReplyPieces pieces;
  if (stage_ == Stage::before) take_beginning(&text);
  if (stage_ == Stage::reasoning) take_reasoning(&text, &pieces);
  if (stage_ == Stage::behind) {
    text = without_first_blanks(text);
    if (!text.empty()) stage_ = Stage::reply;
  }
  if (stage_ == Stage::reply) {
    if (!held_.empty()) take_reply(std::exchange(held_, {}), &pieces);
    take_reply(text, &pieces);
  }
  return pieces;
}

ReplyPieces ReplyParser::finish() {
  ReplyPieces pieces;
  if (stage_ == Stage::reasoning) {
    const std::string_view rest = begun_ ? std::string_view(held_) : without_first_blanks(held_);
    add_piece(&pieces, PieceKind::reasoning, rest.substr(0, rest.find_last_not_of(kBlanks) + 1));
  } else if (stage_ != Stage::behind) {
    take_reply(held_, &pieces);
  }
  held_.clear();
  const std::string rest = std::exchange(unread_, {});
  if (!over_) calls_ ? calls_->push(rest, &pieces) : add_piece(&pieces, PieceKind::content, rest);
  if (calls_ && !over_) calls_->finish(&pieces);
  if (one_call_) cut(&pieces);
  return pieces;
}

// Holds back what may be the opening mark. What is no mark stays in held_, in front of `text`.
void ReplyParser::take_beginning(std::string_view* text) {
  held_ += *text;
  *text = {};
  const std::string_view begun = without_first_blanks(held_);
  if (begun.starts_with(open_)) {
    const std::string rest(begun.substr(open_.size()));
    stage_ = Stage::reasoning;
    held_ = rest;
  } else if (!std::string_view(open_).starts_with(begun)) {
    stage_ = Stage::reply;
  }
}

void ReplyParser::take_reasoning(std::string_view* text, ReplyPieces* pieces) {
  held_ += *text;
  *text = {};
  const auto end = held_.find(close_);
  std::string_view certain = held_;
  certain = end == std::string::npos ? certain.substr(0, certain_bytes(certain, close_)) : certain.substr(0, end);
  if (end != std::string::npos) {
    certain = certain.substr(0, certain.find_last_not_of(kBlanks) + 1);
  }
  std::string_view told = begun_ ? certain : without_first_blanks(certain);
  begun_ = begun_ || !told.empty();
  add_piece(pieces, PieceKind::reasoning, told);
  if (end == std::string::npos) {
    held_.erase(0, certain.size());
    return;
  }
  stage_ = Stage::behind;
  held_.erase(0, end + close_.size());
  held_ = without_first_blanks(held_);
  if (!held_.empty()) stage_ = Stage::reply;
}

void ReplyParser::take_reply(std::string_view text, ReplyPieces* pieces) {
  if (over_ || text.empty()) return;
  const std::string read = without_marks(text);
  calls_ ? calls_->push(read, pieces) : add_piece(pieces, PieceKind::content, read);
  if (one_call_) cut(pieces);
}

// Of what is there of the reply, all that is certain but the special marks of reasoning.
std::string ReplyParser::without_marks(std::string_view text) {
  unread_ += text;
  std::string kept;
  for (std::size_t begin = 0;;) {
    std::size_t end = std::string::npos, size = 0, held = 0;
    for (const auto& mark : special_marks_) {
      const auto at = unread_.find(mark, begin);
      if (at < end) {
        end = at;
        size = mark.size();
      }
      held = std::max(held, beginning_bytes(std::string_view(unread_).substr(begin), mark));
    }
    const bool found = end != std::string::npos;
    if (!found) end = unread_.size() - held;
    kept.append(unread_, begin, end - begin);
    begin = end + size;
    if (found) continue;
    unread_.erase(0, begin);
    return kept;
  }
}

// What stands behind the first call goes.
void ReplyParser::cut(ReplyPieces* pieces) {
  if (over_) return pieces->clear();
  const auto is_end = [](const ReplyPiece& piece) { return piece.kind == PieceKind::call_end; };
  const auto end = std::find_if(pieces->begin(), pieces->end(), is_end);
  if (end == pieces->end()) return;
  pieces->erase(end + 1, pieces->end());
  over_ = true;
}

}  // namespace cortex
