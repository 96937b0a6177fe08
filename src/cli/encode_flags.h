// What `cortex embed` and `cortex rerank` have in common: where texts come from and who encodes them. Main's thread.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/text_batches.h"
#include "cli/text_encoder.h"

namespace cortex {

class EncodeFlags {
 public:
  explicit EncodeFlags(CLI::App& app);

  const LogFlags& log() const { return log_; }
  TextBatches texts() const;
  // With --model in this process, else the server. Throws Error.
  std::unique_ptr<TextEncoder> encoder(bool normalize) const;
  // Runs `work`; when no server can be reached, says what to do about it.
  int run(const std::function<int()>& work) const;

 private:
  EngineFlags engine_;
  LogFlags log_;
  std::vector<std::string> files_;
  std::string server_, api_key_file_, served_model_;
  bool jsonl_ = false;
  bool whole_files_ = false;
  bool truncate_ = false;
};

}  // namespace cortex
