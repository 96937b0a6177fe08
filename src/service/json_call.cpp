#include "service/json_call.h"

#include <simdjson.h>

#include <algorithm>
#include <string>

namespace cortex {
namespace {

constexpr std::size_t kMostDepth = 64;

// What a JSON string says. Empty when it is none.
std::string text_of_json_string(std::string_view json) {
  simdjson::dom::parser parser;
  std::string_view text;
  if (parser.parse(json.data(), json.size()).get(text) != simdjson::SUCCESS) return {};
  return std::string(text);
}

}  // namespace

Progress JsonValueEnd::push(char c) {
  if (!begun_) {
    begun_ = true;
    in_string_ = c == '"';
    depth_ = c == '{' || c == '[' ? 1 : 0;
    is_word_ = !in_string_ && depth_ == 0;
    const bool is_value = in_string_ || depth_ > 0 || c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
    return is_value ? Progress::more : Progress::failed;
  }
  if (is_word_) return is_blank(c) || c == ',' || c == '}' || c == ']' ? Progress::failed : Progress::more;
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      return depth_ == 0 ? Progress::done : Progress::more;
    }
    return Progress::more;
  }
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[') ++depth_;
  if (c == '}' || c == ']') --depth_;
  return depth_ == 0 ? Progress::done : Progress::more;
}

Progress JsonCall::push(char c, ReplyPieces* pieces) {
  switch (state_) {
    case State::before:
      if (is_blank(c)) return Progress::more;
      state_ = State::key_or_end;
      return c == '{' ? Progress::more : Progress::failed;
    case State::key_or_end:
      if (is_blank(c)) return Progress::more;
      if (c == '}') return end(pieces);
      key_.clear();
      state_ = State::key;
      return c == '"' ? Progress::more : Progress::failed;
    case State::key:
      // The keys that matter have no escapes.
      if (c == '\\') return Progress::failed;
      if (c == '"') {
        state_ = State::colon;
      } else {
        key_ += c;
      }
      return Progress::more;
    case State::colon:
      if (is_blank(c)) return Progress::more;
      state_ = State::value;
      value_.clear();
      value_end_ = {};
      return c == ':' ? Progress::more : Progress::failed;
    case State::value:
      if (value_.empty() && is_blank(c)) return Progress::more;
      return value_.empty() ? start_member(c, pieces) : take_value(c, pieces);
    case State::comma_or_end:
      if (is_blank(c)) return Progress::more;
      if (c == '}') return end(pieces);
      state_ = State::key_or_end;
      return c == ',' ? Progress::more : Progress::failed;
    case State::done:
      break;
  }
  return Progress::failed;
}

Progress JsonCall::start_member(char c, ReplyPieces* pieces) {
  is_arguments_ = key_ == "arguments" || key_ == "parameters";
  if (is_arguments_ && !arguments_.empty()) return Progress::failed;
  return take_value(c, pieces);
}

Progress JsonCall::take_value(char c, ReplyPieces* pieces) {
  const Progress progress = value_end_.push(c);
  if (progress == Progress::failed) {
    if (value_.empty()) return Progress::failed;
    // A number or a word has ended before this byte.
    const Progress ended = end_value();
    return ended == Progress::more ? push(c, pieces) : ended;
  }
  value_ += c;
  if (tells_arguments()) {
    if (!told_name_) add_piece(pieces, PieceKind::call, name_);
    told_name_ = told_arguments_ = true;
    add_piece(pieces, PieceKind::arguments, {&c, 1});
  }
  return progress == Progress::done ? end_value() : Progress::more;
}

Progress JsonCall::end_value() {
  state_ = State::comma_or_end;
  if (is_arguments_) {
    arguments_ = value_.front() == '"' ? text_of_json_string(value_) : value_;
    if (arguments_ == "null") arguments_ = "{}";
    return is_json_object(arguments_) ? Progress::more : Progress::failed;
  }
  if (key_ != "name") return is_json(value_) ? Progress::more : Progress::failed;
  name_ = value_.front() == '"' ? text_of_json_string(value_) : std::string();
  return std::find(names_->begin(), names_->end(), name_) == names_->end() ? Progress::failed : Progress::more;
}

Progress JsonCall::end(ReplyPieces* pieces) {
  state_ = State::done;
  if (name_.empty()) return Progress::failed;
  if (!told_name_) add_piece(pieces, PieceKind::call, name_);
  if (!told_arguments_) add_piece(pieces, PieceKind::arguments, arguments_.empty() ? "{}" : arguments_);
  add_piece(pieces, PieceKind::call_end, "");
  return Progress::done;
}

bool is_json(std::string_view text) {
  simdjson::dom::parser parser;
  return parser.allocate(std::max<std::size_t>(text.size(), 1), kMostDepth) == simdjson::SUCCESS &&
         parser.parse(text.data(), text.size()).error() == simdjson::SUCCESS;
}

bool is_json_object(std::string_view text) { return text.starts_with('{') && is_json(text); }

}  // namespace cortex
