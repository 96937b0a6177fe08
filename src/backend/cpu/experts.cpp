#include "backend/cpu/experts.h"

#include <algorithm>
#include <optional>

#include "backend/cpu/kernels.h"
#include "backend/expert_routing.h"

namespace cortex {

CpuExperts::CpuExperts(const ExpertsSpec& spec, Activation activation, const DecoderLayerWeights& weights,
                       WeightReader& reader)
    : spec_(spec), router_(read_projection(reader, {weights.router.value()})) {
  for (const ExpertWeights& expert : weights.experts) {
    experts_.emplace_back(activation, LinearView(expert.gate), expert.up, expert.down, reader);
  }
}

void CpuExperts::run(ThreadTeam& team, const std::vector<float>& in, int rows, LayerBuffers& buffers,
                     std::vector<float>& out) const {
  std::vector<float> logits, gathered, outputs;
  project(team, in, rows, router_, logits);
  out.assign(in.size(), 0.0f);
  const int hidden = router_.weight.columns;
  for (const ExpertRows& mine : route(logits, spec_)) {
    gathered.resize(mine.rows.size() * static_cast<std::size_t>(hidden));
    for (std::size_t i = 0; i < mine.rows.size(); ++i) {
      std::copy_n(in.data() + offset_of(mine.rows[i], hidden), hidden,
                  gathered.data() + offset_of(static_cast<int>(i), hidden));
    }
    experts_[static_cast<std::size_t>(mine.expert)].run(team, gathered, static_cast<int>(mine.rows.size()), buffers,
                                                        outputs);
    for (std::size_t i = 0; i < mine.rows.size(); ++i) {
      kernels().add_weighted(&mine.weights[i], outputs.data() + offset_of(static_cast<int>(i), hidden), 0, 1, hidden,
                             out.data() + offset_of(mine.rows[i], hidden));
    }
  }
}

}  // namespace cortex
