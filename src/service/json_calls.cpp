#include "service/json_calls.h"

namespace cortex {

JsonCalls::JsonCalls(CallRules rules, std::vector<Mark> openings, std::vector<Mark> others)
    : CallReader(std::move(rules), std::move(openings), std::move(others)), call_(&names()) {
  open_at_start_with({"{", "[", "```json\n", "```tool_code\n", "```tool_call\n"});
}

void JsonCalls::open(std::string_view opening) {
  state_ = State::before_first;
  is_list_ = false;
  is_fenced_ = opening.starts_with("```");
  ticks_ = 0;
  ReplyPieces none;
  if (opening == "{" || opening == "[") read(opening.front(), &none);
}

Progress JsonCalls::begin_call(char c, ReplyPieces* pieces) {
  if (is_blank(c)) return Progress::more;
  if (c == '[' && !is_list_ && state_ == State::before_first) {
    is_list_ = true;
    return Progress::more;
  }
  state_ = State::call;
  call_ = JsonCall(&names());
  return c == '{' ? call_.push(c, pieces) : Progress::failed;
}

Progress JsonCalls::read_call(char c, ReplyPieces* pieces) {
  const Progress progress = call_.push(c, pieces);
  if (progress != Progress::done) return progress;
  state_ = State::behind_call;
  return Progress::more;
}

Progress JsonCalls::read(char c, ReplyPieces* pieces) {
  switch (state_) {
    case State::before_first:
    case State::before_next:
      return begin_call(c, pieces);
    case State::call:
      return read_call(c, pieces);
    case State::behind_call:
      if (is_blank(c)) return Progress::more;
      if (c == (is_list_ ? ',' : ';')) {
        state_ = State::before_next;
        return Progress::more;
      }
      if (is_list_) {
        state_ = is_fenced_ ? State::fence : State::behind_all;
        return c == ']' ? Progress::more : Progress::failed;
      }
      if (!is_fenced_) return Progress::failed;
      state_ = State::fence;
      [[fallthrough]];
    case State::fence:
      if (is_blank(c) && ticks_ == 0) return Progress::more;
      if (c != '`') return Progress::failed;
      if (++ticks_ == 3) state_ = State::behind_all;
      return Progress::more;
    case State::behind_all:
      return is_blank(c) ? Progress::more : Progress::failed;
  }
  return Progress::failed;
}

bool JsonCalls::may_end(ReplyPieces*) {
  return state_ == State::behind_all || (state_ == State::behind_call && !is_list_) || state_ == State::fence;
}

}  // namespace cortex
