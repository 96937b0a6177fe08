// Calls as FunctionGemma writes them: <start_function_call>call:f{key:<escape>text<escape>,other:5}<end_function_call>.
// A block is told once it is whole, as JSON; arguments that are JSON already are taken as they are.
// Source: ai.google.dev/gemma/docs/functiongemma/formatting-and-best-practices.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "service/call_reader.h"

namespace cortex {

class FunctionGemmaCalls : public CallReader {
 public:
  FunctionGemmaCalls(CallRules rules, std::vector<Mark> openings, std::vector<Mark> others)
      : CallReader(std::move(rules), std::move(openings), std::move(others)) {}

 private:
  void open(std::string_view opening) override;
  Progress read(char c, ReplyPieces* pieces) override;
  bool may_end(ReplyPieces* pieces) override;

  Progress tell(std::string_view call, ReplyPieces* pieces) const;

  std::string text_;
};

// The arguments in braces, as JSON. Nothing when they are not what they should be.
std::optional<std::string> json_of_gemma_arguments(std::string_view text);

}  // namespace cortex
