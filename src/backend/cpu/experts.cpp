#include "backend/cpu/experts.h"

#include <algorithm>
#include <optional>

#include "backend/cpu/kernels.h"
#include "backend/expert_routing.h"

namespace cortex {

CpuExperts::CpuExperts(WeightLoader& loader, Arithmetic arithmetic, const ExpertsSpec& spec, Activation activation,
                       const DecoderLayerWeights& weights)
    : spec_(spec), router_(loader, Arithmetic::exact, {weights.router.value()}) {
  for (const ExpertWeights& expert : weights.experts) {
    experts_.emplace_back(loader, arithmetic, activation, LinearView(expert.gate), expert.up, expert.down);
  }
}

void CpuExperts::run(ThreadTeam& team, const InputRows& in, int rows, FeedForwardBuffers& buffers, LinearEnd end,
                     float* out, std::size_t out_stride) const {
  const auto width = static_cast<std::size_t>(router_.outputs());
  std::vector<float> padded(static_cast<std::size_t>(rows) * width);
  router_.run(team, in.view(), rows, LinearEnd::store, padded.data(), width);
  std::vector<float> logits(static_cast<std::size_t>(rows) * static_cast<std::size_t>(spec_.count));
  for (int row = 0; row < rows; ++row) {
    std::copy_n(padded.data() + static_cast<std::size_t>(row) * width, spec_.count,
                logits.data() + static_cast<std::size_t>(row) * static_cast<std::size_t>(spec_.count));
  }
  if (end == LinearEnd::store) {
    for (int row = 0; row < rows; ++row)
      std::fill_n(out + static_cast<std::size_t>(row) * out_stride, out_stride, 0.0f);
  }
  InputRows gathered;
  std::vector<float> outputs;
  for (const ExpertRows& mine : route(logits, spec_)) {
    const CpuFeedForward& expert = experts_[static_cast<std::size_t>(mine.expert)];
    const int count = static_cast<int>(mine.rows.size());
    gathered.reshape(count, in.columns(), expert.first().padded_columns(), expert.first().products());
    for (int i = 0; i < count; ++i) {
      std::copy_n(in.row(mine.rows[static_cast<std::size_t>(i)]), in.columns(), gathered.row(i));
      gathered.pack(i);
    }
    const auto stride = static_cast<std::size_t>(expert.outputs());
    outputs.resize(mine.rows.size() * stride);
    expert.run(team, gathered, count, buffers, LinearEnd::store, outputs.data(), stride);
    for (std::size_t i = 0; i < mine.rows.size(); ++i) {
      kernels().add_weighted(&mine.weights[i], outputs.data() + i * stride, 0, 1, in.columns(),
                             out + static_cast<std::size_t>(mine.rows[i]) * out_stride);
    }
  }
}

}  // namespace cortex
