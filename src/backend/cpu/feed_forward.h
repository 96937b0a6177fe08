// The feed-forward of a layer: down(activation(gate) * up), or down(activation(up)) where there is no gate. Made on the
// loading thread, run by the engine thread.
#pragma once

#include <optional>
#include <vector>

#include "backend/cpu/projection.h"
#include "backend/cpu/thread_team.h"
#include "backend/cpu/weight_matrix.h"

namespace cortex {

// What a layer computes in; one for all layers, since they keep their capacity.
struct LayerBuffers {
  std::vector<float> projected;  // [T, widest projection]
  std::vector<float> mixed;      // [T, heads * head_dim] or [T, intermediate]

  std::size_t memory_bytes() const { return (projected.capacity() + mixed.capacity()) * sizeof(float); }
};

class CpuFeedForward {
 public:
  CpuFeedForward(Activation activation, std::optional<LinearView> gate, LinearView up, LinearView down,
                 WeightReader& reader);

  // out [rows, hidden] of in [rows, hidden].
  void run(ThreadTeam& team, const std::vector<float>& in, int rows, LayerBuffers& buffers,
           std::vector<float>& out) const;

 private:
  Activation activation_;
  bool gated_;
  Projection in_;  // the rows of gate, if any, and of up
  Projection down_;
};

}  // namespace cortex
