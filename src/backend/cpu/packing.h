// Weights as their file holds them into packed matrices: read in slabs of rows, packed once, on the loading thread.
// Maps of quantised formats never go through a float: unpack_row() gives what read_weight() gives, bit for bit.
//
//   Q4_0, Q5_0, Q8_0      4, 5, 8 bits around 8, 16, 128; groups of 32; f16
//   Q4_1, Q5_1            4, 5 bits with minima; groups of 32; f16
//   Q4_K, Q5_K            4, 5 bits with minima; groups of 32; two_level
//   Q6_K                  6 bits around 32; groups of 16; two_level
//   MLX, 4 to 8 bits      the same bits with minima; groups of 32, 64 or 128 as they are; scales of their own type
//   MLX, 2 and 3 bits     so, widened to 4 bits
//   F32, F16, BF16        what FloatPacking says
//   any of 6 bits or more with FloatPacking::codes4, by way of float32, so too
//
// Every part begins at a panel: its rows are padded to whole panels of zero scales, so row r of part i lies at
// padded_rows(rows of part 0) + ... + padded_rows(rows of part i - 1) + r.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "backend/cpu/packed_matrix.h"
#include "backend/cpu/weight_arena.h"
#include "model/weight.h"

namespace cortex {

// What weights of floats become.
enum class FloatPacking : std::uint8_t {
  f32,     // exact
  bf16,    // BF16 exactly, others rounded to nearest, ties to even
  codes8,  // 8 bits around 128, groups of 32 with an f16 scale
  codes4,  // 4 bits, groups of 32 with an f16 scale and minimum
};

// Told how many values were packed since the last call; may be empty.
using PackProgress = std::function<void(std::size_t elements)>;

PackedFormat packed_format(const Weight& weight, FloatPacking floats);

// What the functions below make of the same weights, with room in the arena but nothing read or written.
PackedMatrix lay_out(std::span<const Weight* const> parts, FloatPacking floats, WeightArena& arena);
PackedMatrix lay_out_interleaved(const Weight& even, const Weight& odd, FloatPacking floats, WeightArena& arena);

// The parts' rows below one another; all parts have the same columns and the same packed_format(). Functions below
// throw Error weights_io_error and memory_pressure.
PackedMatrix pack(std::span<const Weight* const> parts, FloatPacking floats, WeightArena& arena,
                  const PackProgress& progress);

// Two weights of the same shape and packed_format() by turns, a panel of each: panel i of `even` is the matrix's panel
// 2i, that of `odd` 2i + 1.
PackedMatrix pack_interleaved(const Weight& even, const Weight& odd, FloatPacking floats, WeightArena& arena,
                              const PackProgress& progress);

}  // namespace cortex
