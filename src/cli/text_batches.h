// The texts of a source in the portions that one call takes. One owner; one thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/text_source.h"

namespace cortex {

// In one call: what a server takes for /rerank, and half of what its body may hold.
inline constexpr std::size_t kMostTextsPerCall = 32;
inline constexpr std::size_t kMostBytesPerCall = 4 << 20;

struct TextBatch {
  std::vector<std::size_t> indices;  // among the source's
  std::vector<std::string> texts;
};

class TextBatches {
 public:
  explicit TextBatches(TextSource source) : source_(std::move(source)) {}

  // A text that is larger than a call's bytes comes alone; none at the end. Throws as TextSource.
  TextBatch next();

 private:
  TextSource source_;
  std::optional<SourceText> ahead_;  // did not fit into the batch before
};

}  // namespace cortex
