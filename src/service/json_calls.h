// Calls as Llama 3 writes them, and what models are told by prompts alone: the reply is a JSON object {"name": "f",
// "parameters": {...}}, maybe behind <|python_tag|> or in a fenced block, or a list of them. Anything behind it makes
// it content.
#pragma once

#include <string>
#include <utility>

#include "service/call_reader.h"

namespace cortex {

class JsonCalls : public CallReader {
 public:
  JsonCalls(CallRules rules, std::vector<Mark> openings, std::vector<Mark> others);

 private:
  enum class State { before_first, call, behind_call, before_next, fence, behind_all };

  void open(std::string_view opening) override;
  Progress read(char c, ReplyPieces* pieces) override;
  bool may_end(ReplyPieces* pieces) override;

  Progress begin_call(char c, ReplyPieces* pieces);
  Progress read_call(char c, ReplyPieces* pieces);

  JsonCall call_;
  State state_ = State::before_first;
  bool is_list_ = false;
  bool is_fenced_ = false;
  int ticks_ = 0;  // of the closing fence
};

}  // namespace cortex
