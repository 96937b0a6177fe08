// The input is a .gguf file: read on its own, and opened as a model.
#include <vector>

#include "input.h"
#include "memory_files.h"
#include "model/gguf.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr std::int64_t kMostElements = 1 << 16;

bool is_float_like(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || layout_of(dtype).block_elements > 1;
}

void read_tensors(std::shared_ptr<const MemoryFile> file) {
  const std::uint64_t size_bytes = file->size_bytes();
  for (const TensorView& tensor : read_gguf(std::move(file)).tensors) {
    if (tensor.bytes == 0) continue;  // wherever it is
    CORTEX_CHECK(tensor.offset < size_bytes && tensor.bytes <= size_bytes - tensor.offset);
    if (tensor.elements() > kMostElements || !is_float_like(tensor.dtype)) continue;
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    read_rows(tensor, 0, tensor.rows(), values);
  }
}

}  // namespace
}  // namespace cortex

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cortex;
  const auto bytes = std::make_shared<const std::string>(text_of(data, size));
  MemoryFiles files;
  files.add("/a.gguf", bytes);
  try {
    read_tensors(std::make_shared<MemoryFile>("/a.gguf", bytes));
    open_model(files, "/a.gguf");
  } catch (const Error& error) {
    check_refusal(error);
  }
  return 0;
}
