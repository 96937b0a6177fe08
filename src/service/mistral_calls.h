// Calls as Mistral's models write them: [TOOL_CALLS] [{"name": "f", "arguments": {...}}, ...], or newer
// [TOOL_CALLS]f[ARGS]{...}, where [CALL_ID] and an id may stand behind the name.
#pragma once

#include <string>
#include <utility>

#include "service/call_reader.h"

namespace cortex {

class MistralCalls : public CallReader {
 public:
  MistralCalls(CallRules rules, std::vector<Mark> openings, std::vector<Mark> others)
      : CallReader(std::move(rules), std::move(openings), std::move(others)), call_(&names()) {}

 private:
  enum class State { before, call, behind_call, before_next, name, arguments };

  void open(std::string_view opening) override;
  Progress read(char c, ReplyPieces* pieces) override;
  bool may_end(ReplyPieces* pieces) override;

  Progress read_name(char c, ReplyPieces* pieces);
  Progress read_arguments(char c, ReplyPieces* pieces);

  JsonCall call_;
  State state_ = State::before;
  std::string name_;  // with all that stands before the arguments
  std::string arguments_;
  JsonValueEnd arguments_end_;
};

}  // namespace cortex
