#include "model/affine_groups.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;

constexpr std::size_t kRun = 32;  // elements that fill whole words, whatever their width

// kRun quants of kBits bits, little end first, are kBits words.
template <int kBits>
void widen_run(const std::uint32_t* words, float scale, float bias, float* out) {
  for (std::size_t i = 0; i < kRun; ++i) {
    const std::size_t word = i * kBits / 32;
    const std::size_t shift = i * kBits % 32;
    std::uint32_t quant = words[word] >> shift;
    if (shift + kBits > 32) quant |= words[word + 1] << (32 - shift);
    out[i] = scale * static_cast<float>(static_cast<int>(quant & ((1u << kBits) - 1))) + bias;
  }
}

using WidenRun = void (*)(const std::uint32_t* words, float scale, float bias, float* out);

WidenRun widen_run_of(int bits) {
  constexpr std::array<WidenRun, 9> kRuns = {nullptr,      nullptr,      widen_run<2>, widen_run<3>, widen_run<4>,
                                             widen_run<5>, widen_run<6>, nullptr,      widen_run<8>};
  CORTEX_CHECK(bits >= 0 && static_cast<std::size_t>(bits) < kRuns.size());
  CORTEX_CHECK(kRuns[static_cast<std::size_t>(bits)] != nullptr);
  return kRuns[static_cast<std::size_t>(bits)];
}

struct GroupRow {
  const std::uint32_t* words;     // [columns * bits / 32]
  std::span<const float> scales;  // [columns / group]
  std::span<const float> biases;  // [columns / group]
};

void widen(const GroupRow& row, const AffineGroups& groups, float* out) {
  const WidenRun widen_run = widen_run_of(groups.bits);
  const auto group_runs = static_cast<std::size_t>(groups.group_elements) / kRun;
  const std::uint32_t* words = row.words;
  for (std::size_t group = 0; group < row.scales.size(); ++group) {
    for (std::size_t run = 0; run < group_runs; ++run) {
      widen_run(words, row.scales[group], row.biases[group], out);
      words += groups.bits;
      out += kRun;
    }
  }
}

void check_shapes(const Weight& weight) {
  const AffineGroups& groups = *weight.groups;
  CORTEX_CHECK(weight.tensor.dtype == DType::u32);
  CORTEX_CHECK(groups.group_elements % static_cast<int>(kRun) == 0);
  CORTEX_CHECK(weight.tensor.columns() * 32 == weight.columns() * groups.bits);
  CORTEX_CHECK(groups.scales.rows() == weight.rows() && groups.biases.rows() == weight.rows());
  CORTEX_CHECK(groups.biases.columns() == groups.scales.columns());
}

}  // namespace

void read_group_rows(const Weight& weight, std::int64_t first_row, std::int64_t count, std::span<float> out) {
  check_shapes(weight);
  CORTEX_CHECK(first_row >= 0 && count >= 0 && first_row <= weight.rows() - count);
  const auto columns = static_cast<std::size_t>(weight.columns());
  const auto words = static_cast<std::size_t>(weight.tensor.columns());
  const auto groups = static_cast<std::size_t>(weight.groups->scales.columns());
  CORTEX_CHECK(out.size() == static_cast<std::size_t>(count) * columns);
  if (out.empty()) return;

  const auto most = static_cast<std::int64_t>(std::max<std::uint64_t>(1, kChunkBytes / weight.tensor.row_bytes()));
  const auto chunk = static_cast<std::size_t>(std::min(count, most));
  std::vector<std::uint32_t> quants(chunk * words);
  std::vector<float> scales(chunk * groups);
  std::vector<float> biases(chunk * groups);
  for (std::int64_t done = 0; done < count; done += static_cast<std::int64_t>(chunk)) {
    const std::int64_t rows = std::min(count - done, static_cast<std::int64_t>(chunk));
    const auto row_count = static_cast<std::size_t>(rows);
    read_row_bytes(weight.tensor, first_row + done, rows,
                   std::as_writable_bytes(std::span(quants).first(row_count * words)));
    read_rows(weight.groups->scales, first_row + done, rows, std::span(scales).first(row_count * groups));
    read_rows(weight.groups->biases, first_row + done, rows, std::span(biases).first(row_count * groups));
    for (std::size_t i = 0; i < row_count; ++i) {
      const GroupRow row{quants.data() + i * words, std::span(scales).subspan(i * groups, groups),
                         std::span(biases).subspan(i * groups, groups)};
      widen(row, *weight.groups, out.data() + (static_cast<std::size_t>(done) + i) * columns);
    }
  }
}

}  // namespace cortex
