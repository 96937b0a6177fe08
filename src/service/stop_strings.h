// Finds a request's stop strings in text that arrives in pieces: cuts where a match begins, holds back what may still
// become one. Of several matches the one that is complete first counts (the longest of those that end together), so
// that the result does not depend on the pieces. One per generated text; one thread at a time.
//
// Invariants: (1) what push() and finish() return, joined, is the text before the match; (2) no byte is held back
// unless it may begin a match; (3) valid UTF-8 in, valid UTF-8 out.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cortex {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // The part of the text so far that may be shown now. Empty once a match was found.
  std::string push(std::string_view text);

  // The same for a part in which none is looked for. Nothing that was held back is a beginning any more.
  std::string pass(std::string_view text);

  // The end of the text: what was held back, unless a match was found.
  std::string finish();

  bool matched() const { return matched_; }
  std::size_t shown_bytes() const { return shown_bytes_; }

 private:
  std::string show(std::size_t bytes);

  std::vector<std::string> stops_;  // none is empty
  std::string held_;
  std::size_t shown_bytes_ = 0;
  bool matched_ = false;
};

}  // namespace cortex
