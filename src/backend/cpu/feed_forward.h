// The feed-forward of a layer: down(activation(gate) * up), or down(activation(up)) where there is no gate. Made on the
// loading thread, run by the engine thread.
#pragma once

#include <optional>
#include <vector>

#include "backend/cpu/projection.h"

namespace cortex {

// What feed-forwards compute in; one for all layers, since it keeps its capacity.
struct FeedForwardBuffers {
  InputRows inner;               // [T, intermediate]
  std::vector<float> projected;  // [T, outputs of gate and up], where their formats differ

  std::size_t memory_bytes() const { return inner.memory_bytes() + projected.capacity() * sizeof(float); }
};

class CpuFeedForward {
 public:
  CpuFeedForward(WeightLoader& loader, Arithmetic arithmetic, Activation activation, std::optional<LinearView> gate,
                 LinearView up, LinearView down);

  // What reads the layer's rows.
  const Projection& first() const { return in_; }
  const Projection& down() const { return down_; }
  // Outputs of a row, padded: out_stride is at least that.
  int outputs() const { return down_.outputs(); }
  // out [rows, out_stride] = or += the feed-forward of the first `rows` rows of `in`, which are packed for first().
  void run(ThreadTeam& team, const InputRows& in, int rows, FeedForwardBuffers& buffers, LinearEnd end, float* out,
           std::size_t out_stride) const;

 private:
  // Where gate and up have outputs of their own: out = activation(gate) * up of one row; changes `gate`.
  void gate_row(float* gate, float* out) const;

  Activation activation_;
  Projection in_;  // gate, if any, and up
  Projection down_;
};

}  // namespace cortex
