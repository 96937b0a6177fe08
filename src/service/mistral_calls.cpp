#include "service/mistral_calls.h"

#include <algorithm>

namespace cortex {
namespace {

constexpr std::string_view kArguments = "[ARGS]";
constexpr std::string_view kId = "[CALL_ID]";
constexpr std::size_t kLongestName = 256;  // with the id

}  // namespace

void MistralCalls::open(std::string_view) {
  state_ = State::before;
  name_.clear();
  arguments_.clear();
  arguments_end_ = {};
}

Progress MistralCalls::read(char c, ReplyPieces* pieces) {
  switch (state_) {
    case State::before:
      if (is_blank(c)) return Progress::more;
      if (c == '[') {
        state_ = State::before_next;
        return Progress::more;
      }
      state_ = State::name;
      return read_name(c, pieces);
    case State::before_next:
      if (is_blank(c)) return Progress::more;
      call_ = JsonCall(&names());
      state_ = State::call;
      return c == '{' ? call_.push(c, pieces) : Progress::failed;
    case State::call: {
      const Progress progress = call_.push(c, pieces);
      if (progress != Progress::done) return progress;
      state_ = State::behind_call;
      return Progress::more;
    }
    case State::behind_call:
      if (is_blank(c)) return Progress::more;
      if (c == ',') {
        state_ = State::before_next;
        return Progress::more;
      }
      return c == ']' ? Progress::done : Progress::failed;
    case State::name:
      return read_name(c, pieces);
    case State::arguments:
      return read_arguments(c, pieces);
  }
  return Progress::failed;
}

Progress MistralCalls::read_name(char c, ReplyPieces* pieces) {
  if (c != '{') {
    name_ += c;
    return name_.size() > kLongestName ? Progress::failed : Progress::more;
  }
  std::string_view name = name_;
  if (name.ends_with(kArguments)) name.remove_suffix(kArguments.size());
  name = name.substr(0, name.find(kId));
  while (!name.empty() && is_blank(name.back())) name.remove_suffix(1);
  if (std::find(names().begin(), names().end(), name) == names().end()) return Progress::failed;
  state_ = State::arguments;
  add_piece(pieces, PieceKind::call, name);
  return read_arguments(c, pieces);
}

Progress MistralCalls::read_arguments(char c, ReplyPieces* pieces) {
  const Progress progress = arguments_end_.push(c);
  if (progress == Progress::failed) return progress;
  arguments_ += c;
  add_piece(pieces, PieceKind::arguments, {&c, 1});
  if (progress == Progress::more) return progress;
  if (!is_json_object(arguments_)) return Progress::failed;
  add_piece(pieces, PieceKind::call_end, "");
  return Progress::done;
}

bool MistralCalls::may_end(ReplyPieces*) { return state_ == State::behind_call; }

}  // namespace cortex
