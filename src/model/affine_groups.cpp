#include "model/affine_groups.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;

// `bits` bits from bit `first` on of a row whose bits lie little end first.
std::uint32_t quant_at(std::span<const std::uint32_t> row, std::size_t first, std::size_t bits) {
  const std::size_t word = first / 32;
  const std::size_t shift = first % 32;
  std::uint64_t window = row[word];
  if (shift + bits > 32) window |= std::uint64_t{row[word + 1]} << 32;
  return static_cast<std::uint32_t>(window >> shift) & ((1u << bits) - 1);
}

struct GroupRow {
  std::span<const std::uint32_t> words;   // [columns * bits / 32]
  std::span<const float> scales, biases;  // [columns / group]
};

void widen(const GroupRow& row, const AffineGroups& groups, std::span<float> out) {
  const auto bits = static_cast<std::size_t>(groups.bits);
  const auto group = static_cast<std::size_t>(groups.group_elements);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto quant = static_cast<float>(quant_at(row.words, i * bits, bits));
    out[i] = row.scales[i / group] * quant + row.biases[i / group];
  }
}

void check_shapes(const Weight& weight) {
  const AffineGroups& groups = *weight.groups;
  CORTEX_CHECK(weight.tensor.dtype == DType::u32);
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
      const GroupRow row{std::span(quants).subspan(i * words, words), std::span(scales).subspan(i * groups, groups),
                         std::span(biases).subspan(i * groups, groups)};
      widen(row, *weight.groups, out.subspan((static_cast<std::size_t>(done) + i) * columns, columns));
    }
  }
}

}  // namespace cortex
