#include "backend/cpu/projection.h"

#include "backend/cpu/kernels.h"

namespace cortex {

void project(ThreadTeam& team, const std::vector<float>& in, int rows, const WeightMatrix& weight,
             const WeightMatrix& bias, std::vector<float>& out) {
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
