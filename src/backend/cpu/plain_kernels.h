// The set of plain loops, for the instruction set of the file that includes this after all of them.
#pragma once

#include "backend/cpu/attention_loops.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/linear_loops.h"
#include "backend/cpu/loops.h"

namespace cortex {
namespace {

constexpr Kernels loops_named(const char* name) {
  return {.name = name,
          .linear_int8 = linear_int8_loops,
          .linear_bf16 = linear_bf16_loops,
          .linear_f32 = linear_f32_loops,
          .attend = attend_loops,
          .keep = keep_loops,
          .quantise_head = quantise_head,
          .widen_codes = widen_codes,
          .quantise = quantise,
          .round_to_bf16 = round_to_bf16,
          .rms_norm = rms_norm,
          .layer_norm = layer_norm,
          .rotate = rotate,
          .score_keys = score_keys,
          .softmax = softmax,
          .add_weighted = add_weighted,
          .log_sum = log_sum,
          .activate = activate,
          .multiply = multiply,
          .add = add};
}

}  // namespace
}  // namespace cortex
