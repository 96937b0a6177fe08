// A mixture of experts in place of a feed-forward. Each expert computes the rows that chose it, gathered, and a row
// adds up its experts' outputs in the order of their indices. Made on a loader thread, used by the engine thread.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/expert_routing.h"
#include "backend/mlx/feed_forward.h"
#include "backend/mlx/layers.h"

namespace cortex {

class MlxExperts {
 public:
  MlxExperts(const ExpertsSpec& spec, Activation activation, const DecoderLayerWeights& weights);

  // [T, hidden] both. Evaluates the router's logits, and x with them: the host chooses.
  mx::array operator()(const mx::array& x) const;
  std::size_t bytes() const;

 private:
  ExpertsSpec spec_;
  MlxLinear router_;
  std::vector<MlxFeedForward> experts_;
};

}  // namespace cortex
