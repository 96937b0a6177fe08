#include "backend/cpu/feed_forward.h"

#include <algorithm>

#include "backend/cpu/kernels.h"

namespace cortex {

CpuFeedForward::CpuFeedForward(Activation activation, std::optional<LinearView> gate, LinearView up, LinearView down,
                               WeightReader& reader)
    : activation_(activation),
      gated_(gate.has_value()),
      in_(gate ? read_projection(reader, {*gate, up}) : read_projection(reader, {up})),
      down_(read_projection(reader, {down})) {}

void CpuFeedForward::run(ThreadTeam& team, const std::vector<float>& in, int rows, LayerBuffers& buffers,
                         std::vector<float>& out) const {
  project(team, in, rows, in_, buffers.projected);
  const int intermediate = down_.weight.columns;
  const auto count = static_cast<std::size_t>(intermediate);
  buffers.mixed.resize(static_cast<std::size_t>(rows) * count);
  team.parallel_for(rows, [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      float* first = buffers.projected.data() + offset_of(row, in_.weight.rows);
      kernels().activate(activation_, first, count);
      if (gated_) kernels().multiply(first, first + count, count);
      std::copy_n(first, count, buffers.mixed.data() + offset_of(row, intermediate));
    }
  });
  project(team, buffers.mixed, rows, down_, out);
}

}  // namespace cortex
