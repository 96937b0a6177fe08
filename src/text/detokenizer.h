// Token ids of one sequence to text, as they come. Every piece is valid UTF-8: a character is held back until its last
// byte is there, and bytes that can't become one are U+FFFD (one for each maximal part, as browsers do it). One owner;
// one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace cortex {

class Detokenizer {
 public:
  // Special tokens are left out but for those that are `shown`, unless none is to be skipped.
  explicit Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = true,
                       std::vector<std::int32_t> shown = {});

  // The text that is certain now; may be empty.
  std::string push(std::int32_t id);
  // What was held back, with U+FFFD for a character that never ended. Nothing may be pushed afterwards.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  std::vector<std::int32_t> shown_;
  bool at_start_ = true;
  std::string held_;  // the beginning of a character: at most 3 bytes
};

}  // namespace cortex
