#include "backend/cpu/feed_forward.h"

#include <algorithm>

#include "backend/cpu/buffer.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_parts.h"

namespace cortex {
namespace {

Projection read_in(WeightLoader& loader, Arithmetic arithmetic, Activation activation,
                   const std::optional<LinearView>& gate, const LinearView& up) {
  if (gate) return Projection::gated(loader, arithmetic, *gate, up, activation);
  return Projection::activated(loader, arithmetic, up, activation);
}

}  // namespace

CpuFeedForward::CpuFeedForward(WeightLoader& loader, Arithmetic arithmetic, Activation activation,
                               std::optional<LinearView> gate, LinearView up, LinearView down)
    : activation_(activation),
      in_(read_in(loader, arithmetic, activation, gate, up)),
      down_(loader, arithmetic, {down}) {}

void CpuFeedForward::run(ThreadTeam& team, const InputRows& in, int rows, FeedForwardBuffers& buffers, LinearEnd end,
                         float* out, std::size_t out_stride) const {
  InputRows& inner = buffers.inner;
  inner.reshape(rows, down_.columns(), down_.padded_columns(), down_.products());
  if (!in_.activates()) {
    make_room(buffers.projected, static_cast<std::size_t>(rows) * static_cast<std::size_t>(in_.outputs()));
  }
  const auto projected = [&](int row) {
    return in_.activates() ? inner.row(row) : buffers.projected.data() + std::ptrdiff_t{row} * in_.outputs();
  };
  const std::size_t stride = in_.activates() ? inner.stride() : static_cast<std::size_t>(in_.outputs());
  const auto finish = [&](int row) {
    if (!in_.activates()) gate_row(projected(row), inner.row(row));
    inner.pack(row);
  };
  if (const RowParts parts(rows, team.size()); parts.count() > 0) {
    return team.run(parts.count(), [&](int part) {
      const int first = parts.first(part), last = parts.first(part + 1);
      in_.run_rows(in.view(), first, last - first, LinearEnd::store, projected(0), stride);
      for (int row = first; row < last; ++row) finish(row);
      down_.run_rows(inner.view(), first, last - first, end, out, out_stride);
    });
  }
  in_.run(team, in.view(), rows, LinearEnd::store, projected(0), stride);
  team.for_rows(rows, finish);
  down_.run(team, inner.view(), rows, end, out, out_stride);
}

void CpuFeedForward::gate_row(float* gate, float* out) const {
  const auto count = static_cast<std::size_t>(down_.columns());
  kernels().activate(activation_, gate, count);
  kernels().multiply(gate, gate + in_.offset(1), count);
  std::copy_n(gate, count, out);
}

}  // namespace cortex
