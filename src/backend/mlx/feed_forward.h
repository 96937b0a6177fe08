// The feed-forward of a layer: down(activation(gate) * up), or down(activation(up)) where there is no gate. Made on a
// loader thread, used by the engine thread.
#pragma once

#include <cstddef>
#include <optional>

#include "backend/mlx/layers.h"

namespace cortex {

class MlxFeedForward {
 public:
  MlxFeedForward(Activation activation, LinearView gate, LinearView up, LinearView down);
  MlxFeedForward(Activation activation, LinearView up, LinearView down);

  mx::array operator()(const mx::array& x) const;  // [T, hidden] both
  std::size_t bytes() const { return in_.bytes() + down_.bytes(); }

 private:
  Activation activation_;
  bool gated_;
  MlxLinear in_;  // the rows of gate, if any, and of up
  MlxLinear down_;
};

}  // namespace cortex
