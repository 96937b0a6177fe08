// Weights of random bytes in memory, in every format that files hold.
#pragma once

#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "model/weight.h"

namespace cortex {

class StoredBytes : public RandomAccessFile {
 public:
  explicit StoredBytes(std::vector<std::uint8_t> bytes) : bytes_(std::move(bytes)) {}
  const std::filesystem::path& path() const override { return path_; }
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  void read(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      throw std::system_error(EIO, std::generic_category(), path_.string());
    }
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }

 private:
  std::filesystem::path path_ = "weights";
  std::vector<std::uint8_t> bytes_;
};

inline TensorView stored(DType dtype, std::vector<std::int64_t> shape, std::vector<std::uint8_t> bytes) {
  TensorView tensor{.name = "w", .dtype = dtype, .shape = std::move(shape)};
  tensor.bytes = bytes.size();
  tensor.file = std::make_shared<StoredBytes>(std::move(bytes));
  return tensor;
}

inline TensorView stored_floats(std::vector<std::int64_t> shape, std::span<const float> values) {
  std::vector<std::uint8_t> bytes(values.size_bytes());
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return stored(DType::f32, std::move(shape), std::move(bytes));
}

// What the codes of a block are made of, GGUF's small integer scales included: the lowest, the highest, and those with
// a sign bit.
enum class CodeBytes { random, all_00, all_ff, all_80, all_7f };
enum class FloatScales { random, zero, subnormal };

class RandomSource {
 public:
  explicit RandomSource(unsigned seed) : random_(seed) {}

  // Finite, of moderate size where it is not subnormal.
  std::uint16_t float16(FloatScales kind = FloatScales::random) {
    const std::uint32_t any = static_cast<std::uint32_t>(random_());
    if (kind == FloatScales::zero) return static_cast<std::uint16_t>(any & 0x8000);
    const std::uint32_t exponent = kind == FloatScales::subnormal ? 0 : any >> 24 & 15;
    return static_cast<std::uint16_t>((any & 0x83FF) | exponent << 10);
  }

  // GGUF's blocks.
  Weight blocks(DType dtype, std::int64_t rows, std::int64_t columns, CodeBytes codes = CodeBytes::random,
                FloatScales scales = FloatScales::random) {
    const DTypeLayout& layout = layout_of(dtype);
    const auto count = static_cast<std::size_t>(rows * columns / layout.block_elements);
    const auto block_bytes = static_cast<std::size_t>(layout.block_bytes);
    std::vector<std::uint8_t> bytes(count * block_bytes);
    fill(bytes, codes);
    for (std::size_t block = 0; block < count; ++block) {
      for (const std::size_t at : scale_offsets(dtype)) put(bytes, block * block_bytes + at, float16(scales));
    }
    return {stored(dtype, {rows, columns}, std::move(bytes))};
  }

  // MLX's groups.
  Weight affine(int bits, int group, DType scales, DType biases, std::int64_t rows, std::int64_t columns,
                CodeBytes codes = CodeBytes::random, FloatScales kind = FloatScales::random) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * columns * bits / 8));
    fill(bytes, codes);
    Weight weight{stored(DType::u32, {rows, columns * bits / 32}, std::move(bytes))};
    weight.groups = AffineGroups{floats(scales, rows, columns / group, kind),
                                 floats(biases, rows, columns / group, kind), bits, group};
    return weight;
  }

  TensorView floats(DType dtype, std::int64_t rows, std::int64_t columns, FloatScales kind = FloatScales::random) {
    const auto width = static_cast<std::size_t>(layout_of(dtype).block_bytes);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * columns) * width);
    for (std::size_t at = 0; at < bytes.size(); at += width) {
      const auto any = static_cast<std::uint32_t>(random_());
      std::uint32_t bits = (any & 0x807FFFFF) | (120 + (any >> 24 & 7)) << 23;
      if (kind == FloatScales::zero) bits = any & 0x80000000;
      if (kind == FloatScales::subnormal) bits = any & 0x807FFFFF;
      if (dtype == DType::f32) {
        put(bytes, at, bits);
      } else {
        put(bytes, at, dtype == DType::f16 ? float16(kind) : static_cast<std::uint16_t>(bits >> 16));
      }
    }
    return stored(dtype, {rows, columns}, std::move(bytes));
  }

 private:
  template <typename Number>
  static void put(std::vector<std::uint8_t>& bytes, std::size_t at, Number value) {
    std::memcpy(bytes.data() + at, &value, sizeof(value));
  }

  // Of the float16 in a block.
  static std::vector<std::size_t> scale_offsets(DType dtype) {
    switch (dtype) {
      case DType::q4_0:
      case DType::q5_0:
      case DType::q8_0:
        return {0};
      case DType::q6_k:
        return {208};
      default:
        return {0, 2};
    }
  }

  void fill(std::vector<std::uint8_t>& bytes, CodeBytes codes) {
    static constexpr std::array<std::uint8_t, 5> kBytes = {0, 0x00, 0xFF, 0x80, 0x7F};
    for (std::uint8_t& byte : bytes) {
      byte =
          codes == CodeBytes::random ? static_cast<std::uint8_t>(random_()) : kBytes[static_cast<std::size_t>(codes)];
    }
  }

  std::mt19937 random_;
};

}  // namespace cortex
