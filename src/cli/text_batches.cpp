#include "cli/text_batches.h"

namespace cortex {

TextBatch TextBatches::next() {
  TextBatch batch;
  std::size_t bytes = 0;
  while (batch.texts.size() < kMostTextsPerCall) {
    if (!ahead_) ahead_ = source_.next();
    if (!ahead_) break;
    bytes += ahead_->text.size();
    if (bytes > kMostBytesPerCall && !batch.texts.empty()) break;
    batch.indices.push_back(ahead_->index);
    batch.texts.push_back(std::move(ahead_->text));
    ahead_.reset();
  }
  return batch;
}

}  // namespace cortex
