#include "model/tensor_view.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "base/json_writer.h"
#include "model/float16.h"
#include "model/quantised_blocks.h"

static_assert(std::endian::native == std::endian::little, "weight files are little-endian and read as they are");

namespace cortex {
namespace {

// In the order of DType; names as safetensors and GGUF write them.
constexpr std::array<DTypeLayout, 21> kLayouts = {
    {{"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},    {"F64", 1, 8},    {"I8", 1, 1},     {"I16", 1, 2},
     {"I32", 1, 4},      {"I64", 1, 8},      {"U8", 1, 1},      {"U16", 1, 2},    {"U32", 1, 4},    {"U64", 1, 8},
     {"BOOL", 1, 1},     {"Q4_0", 32, 18},   {"Q4_1", 32, 20},  {"Q5_0", 32, 22}, {"Q5_1", 32, 24}, {"Q8_0", 32, 34},
     {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210}}};
static_assert(kLayouts.size() == static_cast<std::size_t>(DType::q6_k) + 1);

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;

std::uint16_t load16(const std::byte* from) {
  std::uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return bits;
}

// `blocks` blocks of `dtype` to float32.
void widen(DType dtype, const std::byte* from, std::size_t blocks, float* out) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, from, blocks * sizeof(float));
      return;
    case DType::f16:
      for (std::size_t i = 0; i < blocks; ++i) out[i] = float_of_float16(load16(from + 2 * i));
      return;
    case DType::bf16:
      for (std::size_t i = 0; i < blocks; ++i) out[i] = float_of_bfloat16(load16(from + 2 * i));
      return;
    default:
      dequantise(dtype, from, blocks, out);
  }
}

void check_rows(const TensorView& tensor, std::int64_t first, std::int64_t count) {
  CORTEX_CHECK(first >= 0 && count >= 0 && first <= tensor.rows() - count);
}

void read_bytes(const TensorView& tensor, std::uint64_t offset, std::span<std::byte> out) {
  try {
    tensor.file->read(offset, out);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::weights_io_error, fmt::format("tensor {}: {}", json_string(tensor.name), error.what()));
  }
}

}  // namespace

const DTypeLayout& layout_of(DType dtype) { return kLayouts[static_cast<std::size_t>(dtype)]; }

std::int64_t TensorView::elements() const { return rows() * columns(); }

std::int64_t TensorView::rows() const {
  std::int64_t product = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) product *= shape[i];
  return product;
}

std::int64_t TensorView::columns() const { return shape.empty() ? 1 : shape.back(); }

std::uint64_t TensorView::row_bytes() const {
  const DTypeLayout& layout = layout_of(dtype);
  CORTEX_CHECK(columns() % layout.block_elements == 0);
  return static_cast<std::uint64_t>(columns() / layout.block_elements * layout.block_bytes);
}

std::string to_string(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t dimension : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(dimension);
  }
  return text + "]";
}

TensorView rows_of(const TensorView& tensor, std::int64_t first, std::int64_t count) {
  check_rows(tensor, first, count);
  TensorView rows = tensor;
  rows.shape = {count, tensor.columns()};
  rows.offset += static_cast<std::uint64_t>(first) * tensor.row_bytes();
  rows.bytes = static_cast<std::uint64_t>(count) * tensor.row_bytes();
  return rows;
}

void read_rows(const TensorView& tensor, std::int64_t first_row, std::int64_t count, std::span<float> out) {
  check_rows(tensor, first_row, count);
  const DTypeLayout& layout = layout_of(tensor.dtype);
  CORTEX_CHECK(out.size() == static_cast<std::size_t>(count * tensor.columns()));

  const auto block_bytes = static_cast<std::size_t>(layout.block_bytes);
  const std::size_t chunk_blocks = kChunkBytes / block_bytes;
  std::uint64_t offset = tensor.offset + static_cast<std::uint64_t>(first_row) * tensor.row_bytes();
  std::uint64_t left = static_cast<std::uint64_t>(count) * (tensor.row_bytes() / block_bytes);
  std::vector<std::byte> chunk(std::min<std::uint64_t>(left, chunk_blocks) * block_bytes);
  float* to = out.data();
  while (left > 0) {
    const auto blocks = static_cast<std::size_t>(std::min<std::uint64_t>(left, chunk_blocks));
    read_bytes(tensor, offset, std::span(chunk).first(blocks * block_bytes));
    widen(tensor.dtype, chunk.data(), blocks, to);
    offset += blocks * block_bytes;
    to += blocks * static_cast<std::size_t>(layout.block_elements);
    left -= blocks;
  }
}

void read_row_bytes(const TensorView& tensor, std::int64_t first_row, std::int64_t count, std::span<std::byte> out) {
  check_rows(tensor, first_row, count);
  CORTEX_CHECK(out.size() == static_cast<std::uint64_t>(count) * tensor.row_bytes());
  read_bytes(tensor, tensor.offset + static_cast<std::uint64_t>(first_row) * tensor.row_bytes(), out);
}

}  // namespace cortex
