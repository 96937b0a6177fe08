// One call as JSON, {"name": "f", "arguments": {...}}, read byte by byte: what of it is certain is told as it comes.
// "parameters" says the same as "arguments"; they may stand before the name, be a string that holds JSON, or be left
// out; other members are passed over. One owner; one thread at a time.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "service/reply_piece.h"

namespace cortex {

enum class Progress { more, done, failed };

// White space as JSON has it.
constexpr bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// Where a JSON value ends, given its bytes one by one.
class JsonValueEnd {
 public:
  // `done` with the last byte of the value, but for a number or a word: `failed` with the first byte behind it.
  Progress push(char c);

 private:
  bool begun_ = false;
  bool is_word_ = false;
  bool in_string_ = false;
  bool escaped_ = false;
  std::size_t depth_ = 0;
};

class JsonCall {
 public:
  // The names that a call may have.
  explicit JsonCall(const std::vector<std::string>* names) : names_(names) {}

  // The next byte, the first of all being '{' or white space before it.
  Progress push(char c, ReplyPieces* pieces);

 private:
  enum class State { before, key_or_end, key, colon, value, comma_or_end, done };

  Progress start_member(char c, ReplyPieces* pieces);
  Progress take_value(char c, ReplyPieces* pieces);
  Progress end_value();
  Progress end(ReplyPieces* pieces);
  bool tells_arguments() const { return is_arguments_ && !name_.empty() && value_.front() == '{'; }

  const std::vector<std::string>* names_;
  State state_ = State::before;
  bool escaped_ = false;
  std::string key_;
  JsonValueEnd value_end_;
  bool is_arguments_ = false;  // the value that is read
  std::string value_;
  std::string name_;
  std::string arguments_;
  bool told_name_ = false;
  bool told_arguments_ = false;
};

// Whether it is a JSON object, whole and valid.
bool is_json_object(std::string_view text);
// Whether it is a JSON value.
bool is_json(std::string_view text);
}  // namespace cortex
