// A mixture of experts in place of a feed-forward. Each expert computes the rows that chose it, gathered, and a row
// adds up its experts' outputs in the order of their indices, so that its result depends on nothing but the row. Made
// on the loading thread, run by the engine thread.
#pragma once

#include <vector>

#include "backend/cpu/feed_forward.h"

namespace cortex {

class CpuExperts {
 public:
  CpuExperts(const ExpertsSpec& spec, Activation activation, const DecoderLayerWeights& weights, WeightReader& reader);

  // out [rows, hidden] of in [rows, hidden].
  void run(ThreadTeam& team, const std::vector<float>& in, int rows, LayerBuffers& buffers,
           std::vector<float>& out) const;

 private:
  ExpertsSpec spec_;
  Projection router_;
  std::vector<CpuFeedForward> experts_;
};

}  // namespace cortex
