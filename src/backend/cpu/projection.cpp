#include "backend/cpu/projection.h"

#include "backend/cpu/kernels.h"
#include "base/error.h"

namespace cortex {

Projection read_projection(WeightReader& reader, std::initializer_list<LinearView> parts) {
  std::vector<const Weight*> weights, biases;
  for (const LinearView& part : parts) {
    weights.push_back(part.weight);
    if (part.bias != nullptr) biases.push_back(part.bias);
  }
  CORTEX_CHECK(biases.empty() || biases.size() == weights.size());
  Projection projection{.weight = reader.read(weights), .bias = {}};
  if (!biases.empty()) projection.bias = reader.read_vector(biases);
  return projection;
}

void project(ThreadTeam& team, const std::vector<float>& in, int rows, const Projection& projection,
             std::vector<float>& out) {
  const WeightMatrix& weight = projection.weight;
  const WeightMatrix& bias = projection.bias;
  const auto in_stride = static_cast<std::size_t>(weight.columns);
  const auto out_stride = static_cast<std::size_t>(weight.rows);
  out.resize(static_cast<std::size_t>(rows) * out_stride);
  team.parallel_for(weight.rows, [&](int begin, int end) {
    kernels().matmul(in.data(), in_stride, rows, weight.data(), weight.columns, begin, end, out.data(), out_stride);
    if (bias.rows == 0) return;
    for (int row = 0; row < rows; ++row) {
      kernels().add(out.data() + static_cast<std::size_t>(row) * out_stride + begin, bias.data() + begin,
                    static_cast<std::size_t>(end - begin));
    }
  });
}

}  // namespace cortex
