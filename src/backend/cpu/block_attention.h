// Attention over the bfloat16 blocks of a pool: what decoders and encoders share around the kernel. The scratch is one
// thread's at a time.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "backend/cpu/attention_task.h"
#include "backend/cpu/kv_pool.h"

namespace cortex {

class BlockAttention {
 public:
  explicit BlockAttention(int head_dim);

  // The rows of a task, for the caller to fill; at most kAttentionRows.
  std::vector<AttentionRow>& rows() { return rows_; }
  // Attends those rows over one head of a layer; `blocks` [..] of the sequence hold every position that a row sees.
  void run(const KvPool& pool, int layer, int kv_head, const BlockId* blocks, float scale);

 private:
  struct Free {
    void operator()(float* floats) const { std::free(floats); }
  };

  int head_dim_;
  std::vector<AttentionRow> rows_;
  std::vector<const std::uint16_t*> keys_, values_;  // by block of the sequence
  std::unique_ptr<float[], Free> scratch_;
};

}  // namespace cortex
