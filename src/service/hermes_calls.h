// Calls as Hermes and Qwen write them: <tool_call>{"name": "f", "arguments": {...}}</tool_call>, one in a block. A
// block's end may be missing where the text ends or the next block begins.
#pragma once

#include <string>
#include <utility>

#include "service/call_reader.h"

namespace cortex {

class HermesCalls : public CallReader {
 public:
  HermesCalls(CallRules rules, std::vector<Mark> openings, std::vector<Mark> others)
      : CallReader(std::move(rules), std::move(openings), std::move(others)), call_(&names()) {}

 private:
  void open(std::string_view opening) override;
  Progress read(char c, ReplyPieces* pieces) override;
  bool may_end(ReplyPieces* pieces) override;

  JsonCall call_;
  bool is_whole_ = false;
  std::string closing_;  // as far as it has come, or the next block's opening
};

}  // namespace cortex
