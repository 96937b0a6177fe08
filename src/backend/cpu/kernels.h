// What the CPU backend computes with: a set of functions for each instruction set, one of which is chosen when the
// backend is opened. Every sum runs in a fixed order that depends on its own length only, so a row's result is the same
// bits whatever else is computed beside it and whichever thread computes it. Products of rows with matrices are as
// linear.h says; elsewhere a sum is sixteen partial sums, element i in sum i mod 16, then halved by a fixed tree, and
// products are rounded before they are added. All but linear_bf16 and attend, which use instructions that round in
// their own ways, are the same bits on every set. Pointers need no alignment; strides are in floats. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "backend/cpu/attention_task.h"
#include "backend/cpu/linear.h"
#include "model/spec.h"

namespace cortex {

struct Kernels {
  std::string_view name;  // "portable", "avx2", "avx512", "amx", "neon"

  // Rows times a packed matrix in each arithmetic (linear.h).
  void (*linear_int8)(const LinearTask& task);
  void (*linear_bf16)(const LinearTask& task);
  void (*linear_f32)(const LinearTask& task);

  // attention_task.h.
  void (*attend)(const AttentionTask& task);

  // Puts a key and a value, [head_dim] each and rounded as by round_to_bf16, where attention_task.h has those of a
  // position, 0..15, of a block.
  void (*keep)(const float* key, const float* value, int head_dim, int position, std::uint16_t* keys,
               std::uint16_t* values);

  // The codes of a head, [head_dim], to the nearest of -127..127 times the scale that it returns. What is not finite
  // gives a scale that is not.
  float (*quantise_head)(const float* x, int head_dim, std::int8_t* codes);

  // out [count] = codes[i] * scales[i mod 32], rounded as by round_to_bf16; count is a multiple of 32.
  void (*widen_codes)(const std::int8_t* codes, const float* scales, std::size_t count, std::uint16_t* out);

  // LinearInput's codes, scales and sums of one row, [columns], a multiple of 32. What is not finite gives scales that
  // are not.
  void (*quantise)(const float* x, int columns, std::int8_t* codes, float* scales, float* scaled_sums,
                   std::int32_t* negative_sums);

  // To the nearest, ties to even.
  void (*round_to_bf16)(const float* x, std::size_t count, std::uint16_t* out);

  // out = x / sqrt(mean(x^2) + epsilon) * weight, [size]. Source: Zhang, Sennrich 2019.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int size, float* out);

  // out = (x - mean) / sqrt(variance + epsilon) * weight + bias, [size]. Source: Ba, Kiros, Hinton 2016.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon, int size, float* out);

  // Turns the pairs (i, i + half) of a head by angles with these cosines and sines, [half].
  void (*rotate)(float* head, const float* cosines, const float* sines, int half);

  // scores[i] = query . keys[i] * scale for `count` keys of `dims` floats, `stride` apart.
  void (*score_keys)(const float* query, const float* keys, std::size_t stride, int count, int dims, float scale,
                     float* scores);

  // In place: exp(x - max) / sum.
  void (*softmax)(float* values, int count);

  // out += sum over i of weights[i] * values[i], ascending; `dims` floats, `stride` apart.
  void (*add_weighted)(const float* weights, const float* values, std::size_t stride, int count, int dims, float* out);

  // The largest of the values, and the sum of exp(value - largest), which is NaN when a value is not finite; count
  // >= 1.
  void (*log_sum)(const float* values, std::size_t count, float* largest, double* sum);

  // In place.
  void (*activate)(Activation activation, float* values, std::size_t count);

  void (*multiply)(float* values, const float* factors, std::size_t count);
  void (*add)(float* values, const float* terms, std::size_t count);
};

extern const Kernels kPortableKernels, kAvx2Kernels, kAvx512Kernels;  // each in its file; x86 processors only but one
extern const Kernels kNeonKernels;                                    // Arm processors only

const Kernels& amx_kernels();  // in its file; x86 processors only

// Those that this processor can run, the widest last.
std::vector<const Kernels*> usable_kernels();

// The widest of them, or the one that the environment variable CORTEX_CPU_ISA names; found out once. Throws Error
// invalid_option when that is none of them.
const Kernels& kernels();

// The same for a name; empty is the widest.
const Kernels& kernels_named(std::string_view name);

}  // namespace cortex
