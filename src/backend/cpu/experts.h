// A mixture of experts in place of a feed-forward. Each expert computes the rows that chose it, gathered, and a row
// adds up its experts' outputs in the order of their indices, so that its result depends on nothing but the row. Made
// on the loading thread, run by the engine thread.
#pragma once

#include <vector>

#include "backend/cpu/feed_forward.h"

namespace cortex {

class CpuExperts {
 public:
  CpuExperts(WeightLoader& loader, Arithmetic arithmetic, const ExpertsSpec& spec, Activation activation,
             const DecoderLayerWeights& weights);

  const Projection& first() const { return router_; }
  const std::vector<CpuFeedForward>& experts() const { return experts_; }
  // As CpuFeedForward; `in` holds float32 rows.
  void run(ThreadTeam& team, const InputRows& in, int rows, FeedForwardBuffers& buffers, LinearEnd end, float* out,
           std::size_t out_stride) const;

 private:
  ExpertsSpec spec_;
  Projection router_;  // exact: a choice of experts must not hang on a rounding
  std::vector<CpuFeedForward> experts_;
};

}  // namespace cortex
