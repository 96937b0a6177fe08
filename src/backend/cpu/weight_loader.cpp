#include "backend/cpu/weight_loader.h"

#include <algorithm>

namespace cortex {

float* WeightLoader::allocate(int floats) {
  const int padded = (floats + kPanelRows - 1) / kPanelRows * kPanelRows;
  return reinterpret_cast<float*>(arena_->allocate(static_cast<std::size_t>(padded) * sizeof(float)));
}

void WeightLoader::copy(const Vector& from, float* to) const {
  if (reads_) std::copy_n(from.values, from.size, to);
}

Vector WeightLoader::vector(const Weight& weight) {
  const auto size = static_cast<std::size_t>(weight.elements());
  float* values = allocate(static_cast<int>(size));
  if (reads_) read_weight(weight, {values, size});
  count(size);
  return {values, static_cast<int>(size)};
}

Vector WeightLoader::zeros(int size) { return {allocate(size), size}; }

PackedMatrix WeightLoader::matrix(std::span<const Weight* const> parts, FloatPacking floats) {
  if (!reads_) return lay_out(parts, floats, *arena_);
  return pack(parts, floats, *arena_, [this](std::size_t elements) { count(elements); });
}

PackedMatrix WeightLoader::interleaved(const Weight& first, const Weight& second, FloatPacking floats) {
  if (!reads_) return lay_out_interleaved(first, second, floats, *arena_);
  return pack_interleaved(first, second, floats, *arena_, [this](std::size_t elements) { count(elements); });
}

void WeightLoader::count(std::size_t elements) {
  read_elements_ += elements;
  if (progress_) {
    progress_(std::min(1.0, static_cast<double>(read_elements_) / static_cast<double>(total_elements_)));
  }
}

}  // namespace cortex
