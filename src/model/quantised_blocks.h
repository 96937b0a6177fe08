// GGUF's quantised blocks as float32. Stateless; any thread.
// Source: github.com/ggml-org/ggml, ggml-common.h (layouts) and ggml-quants.c (dequantize_row_*).
#pragma once

#include <cstddef>

#include "model/tensor_view.h"

namespace cortex {

// `blocks` blocks of a quantised `dtype` into out [blocks * block_elements]. Every product of scale and quant fits
// float32, so a value is exact but for the one rounding where a minimum is added.
void dequantise(DType dtype, const std::byte* from, std::size_t blocks, float* out);

}  // namespace cortex
