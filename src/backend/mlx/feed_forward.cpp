#include "backend/mlx/feed_forward.h"

namespace cortex {

MlxFeedForward::MlxFeedForward(Activation activation, LinearView gate, LinearView up, LinearView down)
    : activation_(activation), gated_(true), in_({gate, up}), down_({down}) {}

MlxFeedForward::MlxFeedForward(Activation activation, LinearView up, LinearView down)
    : activation_(activation), gated_(false), in_({up}), down_({down}) {}

mx::array MlxFeedForward::operator()(const mx::array& x) const {
  const mx::array in = in_(x);
  if (!gated_) return down_(activate(activation_, in));
  const int intermediate = in.shape(1) / 2;
  return down_(activate(activation_, columns(in, 0, intermediate)) * columns(in, intermediate, 2 * intermediate));
}

}  // namespace cortex
