// The rows of a long prompt in parts of whole sixteens, as many for each thread: a thread that takes a part through all
// that rows don't share keeps it in its own cache. Fewer rows have no parts; their work is better cut by panels, so
// that each weight is read once. A value; any thread.
#pragma once

namespace cortex {

class RowParts {
 public:
  RowParts(int rows, int threads);
  int count() const { return count_; }  // 0: too few rows, or one thread
  // Where a part begins; of part count(), where the last ends: all rows.
  int first(int part) const;

 private:
  int rows_ = 0, count_ = 0;
};

}  // namespace cortex
