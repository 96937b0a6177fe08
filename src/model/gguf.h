// The GGUF format, versions 2 and 3: metadata, tensor infos, bytes. Nothing in the file is trusted: every count and
// length is held against the file's size before memory is taken for it. Any thread.
// Source: github.com/ggml-org/ggml, docs/gguf.md.
#pragma once

#include <memory>
#include <vector>

#include "base/file_system.h"
#include "model/fields.h"
#include "model/tensor_view.h"

namespace cortex {

struct GgufFile {
  Fields metadata;                  // its errors are invalid_config
  std::vector<TensorView> tensors;  // in the order of their bytes
};

// Reads all but the tensors' bytes. Throws Error invalid_weights with key or tensor, value and limit, or
// weights_io_error.
GgufFile read_gguf(std::shared_ptr<const RandomAccessFile> file);

}  // namespace cortex
