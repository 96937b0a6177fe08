#include "backend/cpu/packing.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "backend/cpu/panel_packing.h"
#include "base/error.h"

namespace cortex {
namespace {

constexpr std::uint64_t kSlabBytes = std::uint64_t{256} << 10;  // stays in a core's cache while it is packed

ScaleKind scale_kind(DType dtype) {
  return dtype == DType::f16 ? ScaleKind::f16 : dtype == DType::bf16 ? ScaleKind::bf16 : ScaleKind::f32;
}

PackedFormat format_of(const AffineGroups& groups) {
  const bool alike = groups.scales.dtype == groups.biases.dtype;
  return {.bits = std::max(groups.bits, 4),
          .group_columns = groups.group_elements,
          .scales = alike ? scale_kind(groups.scales.dtype) : ScaleKind::f32,
          .minima = true};
}

PackedFormat format_of(FloatPacking floats) {
  switch (floats) {
    case FloatPacking::f32:
      return {.bits = 32};
    case FloatPacking::bf16:
      return {.bits = 16};
    case FloatPacking::codes8:
      return {.bits = 8, .zero_shift = 7};
    case FloatPacking::codes4:
      return {.bits = 4, .minima = true};
  }
  CORTEX_CHECK(false);
}

// A matrix of codes as if its file held float32.
class WidenedFile : public RandomAccessFile {
 public:
  explicit WidenedFile(const Weight& stored) : stored_(stored) { stored_.interleaved_heads = 0; }
  const std::filesystem::path& path() const override { return stored_.tensor.file->path(); }
  std::uint64_t size_bytes() const override { return static_cast<std::uint64_t>(stored_.rows()) * row_bytes(); }
  // Whole rows.
  void read(std::uint64_t offset, std::span<std::byte> out) const override {
    CORTEX_CHECK(offset % row_bytes() == 0 && out.size() % row_bytes() == 0);
    const auto first = static_cast<std::int64_t>(offset / row_bytes());
    const auto count = static_cast<std::int64_t>(out.size() / row_bytes());
    read_weight(rows_of(stored_, first, count), {reinterpret_cast<float*>(out.data()), out.size() / sizeof(float)});
  }

 private:
  std::uint64_t row_bytes() const { return static_cast<std::uint64_t>(stored_.columns()) * sizeof(float); }

  Weight stored_;
};

Weight widened(const Weight& stored) {
  Weight floats{.tensor = {.name = stored.tensor.name, .dtype = DType::f32, .shape = stored.shape()},
                .interleaved_heads = stored.interleaved_heads};
  floats.tensor.bytes = static_cast<std::uint64_t>(stored.elements()) * sizeof(float);
  floats.tensor.file = std::make_shared<WidenedFile>(stored);
  return floats;
}

int padded_rows_of(const Weight& weight) { return padded_rows(static_cast<int>(weight.rows())); }

PackedFormat stored_format(const Weight& weight, FloatPacking floats) {
  if (weight.groups) return format_of(*weight.groups);
  switch (weight.tensor.dtype) {
    case DType::q4_0:
      return {.bits = 4, .zero_shift = 3};
    case DType::q4_1:
      return {.bits = 4, .minima = true};
    case DType::q5_0:
      return {.bits = 5, .zero_shift = 4};
    case DType::q5_1:
      return {.bits = 5, .minima = true};
    case DType::q8_0:
      return {.bits = 8, .zero_shift = 7};
    case DType::q4_k:
      return {.bits = 4, .scales = ScaleKind::two_level, .minima = true};
    case DType::q5_k:
      return {.bits = 5, .scales = ScaleKind::two_level, .minima = true};
    case DType::q6_k:
      return {.bits = 6, .group_columns = 16, .scales = ScaleKind::two_level, .zero_shift = 5};
    case DType::f32:
    case DType::f16:
    case DType::bf16:
      return format_of(floats);
    default:
      CORTEX_CHECK(false);
  }
}

// A matrix of codes that has more bits than are asked for.
bool is_narrowed(const Weight& weight, FloatPacking floats) {
  const PackedFormat stored = stored_format(weight, floats);
  return floats == FloatPacking::codes4 && stored.coded() && stored.bits > 5;
}

// Rows of one of a weight's tensors, a slab at a time.
class Slab {
 public:
  // Reads rows [first, first + count).
  void read(const TensorView& tensor, std::int64_t first, std::int64_t count) {
    row_bytes_ = static_cast<std::size_t>(tensor.row_bytes());
    bytes_.resize(static_cast<std::size_t>(count) * row_bytes_);
    read_row_bytes(tensor, first, count, bytes_);
  }
  const std::byte* row(std::int64_t index) const {
    return bytes_.data() + static_cast<std::size_t>(index) * row_bytes_;
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t row_bytes_ = 0;
};

// Reads a weight's rows and makes panels of them.
class PanelPacker {
 public:
  PanelPacker(const Weight& stored, const PackedFormat& format, FloatPacking floats, const PackProgress& progress)
      : weight_(is_narrowed(stored, floats) ? widened(stored) : stored), format_(format), progress_(progress) {
    const Weight& weight = weight_;
    CORTEX_CHECK(weight.plus == 0.0f);
    if (weight.interleaved_heads > 0) {
      CORTEX_CHECK(weight.rows() % weight.interleaved_heads == 0);
      head_rows_ = weight.rows() / weight.interleaved_heads;
      CORTEX_CHECK(head_rows_ % 2 == 0);
    }
    if (weight.groups) {
      CORTEX_CHECK(weight.tensor.dtype == DType::u32);
      CORTEX_CHECK(weight.tensor.columns() * 32 == weight.columns() * weight.groups->bits);
      CORTEX_CHECK(weight.groups->scales.rows() == weight.rows() && weight.groups->biases.rows() == weight.rows());
      CORTEX_CHECK(weight.groups->biases.columns() == weight.groups->scales.columns());
    }
    zeros_.resize(std::max<std::size_t>(weight.tensor.row_bytes(), static_cast<std::size_t>(weight.columns())));
  }

  // Panel i into to + i * stride.
  void pack(std::byte* to, std::size_t stride) {
    // Whole heads, so that the rows of a panel are all in one slab.
    const std::int64_t unit = std::lcm(head_rows_, std::int64_t{kPanelRows});
    const auto fitting = static_cast<std::int64_t>(kSlabBytes / std::max<std::uint64_t>(1, weight_.tensor.row_bytes()));
    const std::int64_t slab_rows = std::max(fitting / unit, std::int64_t{1}) * unit;
    for (std::int64_t first = 0; first < weight_.rows(); first += slab_rows) {
      const std::int64_t count = std::min(slab_rows, weight_.rows() - first);
      read(first, count);
      for (std::int64_t row = 0; row < count; row += kPanelRows) {
        pack_panel(weight_, format_, panel_rows(row, count), to);
        to += stride;
      }
    }
  }

 private:
  void read(std::int64_t first, std::int64_t count) {
    tensor_.read(weight_.tensor, first, count);
    if (weight_.groups) {
      scales_.read(weight_.groups->scales, first, count);
      biases_.read(weight_.groups->biases, first, count);
    }
    if (progress_) progress_(static_cast<std::size_t>(count * weight_.columns()));
  }

  // Where the slab has the row that belongs at `row`: rows 2i and 2i + 1 of an interleaved head belong at i and
  // i + head_rows_ / 2.
  std::int64_t stored_row(std::int64_t row) const {
    if (weight_.interleaved_heads == 0) return row;
    const std::int64_t pairs = head_rows_ / 2;
    const std::int64_t in_head = row % head_rows_;
    return row - in_head + in_head % pairs * 2 + in_head / pairs;
  }

  PanelRows panel_rows(std::int64_t first, std::int64_t count) const {
    PanelRows rows;
    for (std::size_t i = 0; i < kPanelRows; ++i) {
      const std::int64_t row = first + static_cast<std::int64_t>(i);
      const bool there = row < count;
      rows.tensor[i] = there ? tensor_.row(stored_row(row)) : zeros_.data();
      if (!weight_.groups) continue;
      rows.scales[i] = there ? scales_.row(stored_row(row)) : zeros_.data();
      rows.biases[i] = there ? biases_.row(stored_row(row)) : zeros_.data();
    }
    return rows;
  }

  const Weight weight_;
  const PackedFormat& format_;
  const PackProgress& progress_;
  std::int64_t head_rows_ = 1;
  Slab tensor_, scales_, biases_;
  std::vector<std::byte> zeros_;  // a row of padding, as long as a row of any of the tensors
};

PackedMatrix empty_matrix(const PackedFormat& format, int rows, std::int64_t columns, WeightArena& arena,
                          std::byte** to) {
  PackedMatrix matrix{.format = format, .rows = rows, .columns = static_cast<int>(columns)};
  *to = arena.allocate(static_cast<std::size_t>(matrix.panels()) * matrix.panel_bytes());
  matrix.data = *to;
  return matrix;
}

PackedMatrix empty_stack(std::span<const Weight* const> parts, FloatPacking floats, WeightArena& arena,
                         std::byte** to) {
  CORTEX_CHECK(!parts.empty());
  const PackedFormat format = packed_format(*parts.front(), floats);
  int rows = 0;
  for (const Weight* part : parts) {
    CORTEX_CHECK(part->columns() == parts.front()->columns() && packed_format(*part, floats) == format);
    rows = padded_rows(rows) + static_cast<int>(part->rows());
  }
  return empty_matrix(format, rows, parts.front()->columns(), arena, to);
}

PackedMatrix empty_pair(const Weight& even, const Weight& odd, FloatPacking floats, WeightArena& arena,
                        std::byte** to) {
  const PackedFormat format = packed_format(even, floats);
  CORTEX_CHECK(packed_format(odd, floats) == format);
  CORTEX_CHECK(even.rows() == odd.rows() && even.columns() == odd.columns());
  return empty_matrix(format, 2 * padded_rows_of(even), even.columns(), arena, to);
}

}  // namespace

PackedFormat packed_format(const Weight& weight, FloatPacking floats) {
  return is_narrowed(weight, floats) ? format_of(floats) : stored_format(weight, floats);
}

PackedMatrix lay_out(std::span<const Weight* const> parts, FloatPacking floats, WeightArena& arena) {
  std::byte* to = nullptr;
  return empty_stack(parts, floats, arena, &to);
}

PackedMatrix lay_out_interleaved(const Weight& even, const Weight& odd, FloatPacking floats, WeightArena& arena) {
  std::byte* to = nullptr;
  return empty_pair(even, odd, floats, arena, &to);
}

PackedMatrix pack(std::span<const Weight* const> parts, FloatPacking floats, WeightArena& arena,
                  const PackProgress& progress) {
  std::byte* to = nullptr;
  const PackedMatrix matrix = empty_stack(parts, floats, arena, &to);
  for (const Weight* part : parts) {
    PanelPacker(*part, matrix.format, floats, progress).pack(to, matrix.panel_bytes());
    to += static_cast<std::size_t>(padded_rows_of(*part) / kPanelRows) * matrix.panel_bytes();
  }
  return matrix;
}

PackedMatrix pack_interleaved(const Weight& even, const Weight& odd, FloatPacking floats, WeightArena& arena,
                              const PackProgress& progress) {
  std::byte* to = nullptr;
  const PackedMatrix matrix = empty_pair(even, odd, floats, arena, &to);
  PanelPacker(even, matrix.format, floats, progress).pack(to, 2 * matrix.panel_bytes());
  PanelPacker(odd, matrix.format, floats, progress).pack(to + matrix.panel_bytes(), 2 * matrix.panel_bytes());
  return matrix;
}

}  // namespace cortex
