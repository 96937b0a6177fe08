// Brings a model's weights into its arena, in the forms that the kernels want, and tells how far it is. Lives while a
// model loads, on the loading thread; what it gives lives as long as the arena. One that only lays out gives the same
// addresses and reads nothing; it must, where the arena only measures.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/packing.h"
#include "backend/cpu/weight_arena.h"

namespace cortex {

// float32, padded with zeros to a multiple of 16.
struct Vector {
  const float* values = nullptr;
  int size = 0;

  bool empty() const { return size == 0; }
};

class WeightLoader {
 public:
  // `floats`: what matrices of floats become. `total_elements` of all weights, for `progress`.
  WeightLoader(WeightArena& arena, FloatPacking floats, std::size_t total_elements, const LoadProgress& progress)
      : arena_(&arena), floats_(floats), total_elements_(total_elements), progress_(progress) {}

  FloatPacking floats() const { return floats_; }
  // For what follows.
  void set_arena(WeightArena& arena) { arena_ = &arena; }
  void set_floats(FloatPacking floats) { floats_ = floats; }
  void set_reads(bool reads) { reads_ = reads; }

  Vector vector(const Weight& weight);
  Vector vector(const std::optional<Weight>& weight) { return weight ? vector(*weight) : Vector{}; }
  // Zeros.
  Vector zeros(int size);
  // Room that the caller fills, zero at first.
  float* allocate(int floats);
  // Writes into such room, if it is read into.
  void copy(const Vector& from, float* to) const;

  // The parts below one another, each padded to whole panels; they have one format.
  PackedMatrix matrix(std::span<const Weight* const> parts, FloatPacking floats);
  // Panels of the two in turn; they have one format.
  PackedMatrix interleaved(const Weight& first, const Weight& second, FloatPacking floats);

 private:
  void count(std::size_t elements);

  WeightArena* arena_;
  FloatPacking floats_;
  bool reads_ = true;
  const std::size_t total_elements_;
  std::size_t read_elements_ = 0;
  const LoadProgress& progress_;
};

}  // namespace cortex
