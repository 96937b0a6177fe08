// The safetensors format: an 8-byte length, a JSON header that names tensors and their bytes, the bytes. The header is
// not trusted: whatever it says is checked before it is used. Any thread.
// Source: github.com/huggingface/safetensors, "Format".
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "model/tensor_view.h"

namespace cortex {

// The tensors in the order of their bytes. Reads the header only. `source` names the file in messages, by default as
// its path does. Throws Error invalid_weights with tensor, value and limit, or weights_io_error.
std::vector<TensorView> read_safetensors(std::shared_ptr<const RandomAccessFile> file, std::string source = {});

}  // namespace cortex
