#include "service/hermes_calls.h"

namespace cortex {
namespace {

constexpr std::string_view kOpening = "<tool_call>";
constexpr std::string_view kClosing = "</tool_call>";

}  // namespace

void HermesCalls::open(std::string_view) {
  call_ = JsonCall(&names());
  is_whole_ = false;
  closing_.clear();
}

Progress HermesCalls::read(char c, ReplyPieces* pieces) {
  if (!is_whole_) {
    const Progress progress = call_.push(c, pieces);
    if (progress != Progress::done) return progress;
    is_whole_ = true;
    return Progress::more;
  }
  if (closing_.empty() && is_blank(c)) return Progress::more;
  closing_ += c;
  if (closing_ == kClosing) return Progress::done;
  const bool may_open = closing_ != kOpening && kOpening.starts_with(closing_);
  return may_open || kClosing.starts_with(closing_) ? Progress::more : Progress::failed;
}

bool HermesCalls::may_end(ReplyPieces*) { return is_whole_; }

}  // namespace cortex
