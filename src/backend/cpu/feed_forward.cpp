#include "backend/cpu/feed_forward.h"

#include <algorithm>

#include "backend/cpu/kernels.h"

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
  if (in_.activates()) {
    in_.run(team, in.view(), rows, LinearEnd::store, inner.row(0), inner.stride());
    team.for_rows(rows, [&](int row) { inner.pack(row); });
  } else {
    buffers.projected.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(in_.outputs()));
    in_.run(team, in.view(), rows, LinearEnd::store, buffers.projected.data(), static_cast<std::size_t>(in_.outputs()));
    gate_rows(team, rows, buffers);
  }
  down_.run(team, inner.view(), rows, end, out, out_stride);
}

void CpuFeedForward::gate_rows(ThreadTeam& team, int rows, FeedForwardBuffers& buffers) const {
  const auto count = static_cast<std::size_t>(down_.columns());
  team.for_rows(rows, [&](int row) {
    float* gate = buffers.projected.data() + static_cast<std::size_t>(row) * static_cast<std::size_t>(in_.outputs());
    kernels().activate(activation_, gate, count);
    kernels().multiply(gate, gate + in_.offset(1), count);
    std::copy_n(gate, count, buffers.inner.row(row));
    buffers.inner.pack(row);
  });
}

}  // namespace cortex
