// The input is a .safetensors file.
#include "model/safetensors.h"

#include "input.h"
#include "memory_files.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cortex;
  const auto bytes = std::make_shared<const std::string>(text_of(data, size));
  try {
    std::uint64_t end = 0;
    for (const TensorView& tensor : read_safetensors(std::make_shared<MemoryFile>("a.safetensors", bytes))) {
      CORTEX_CHECK(tensor.offset >= 8 && (end == 0 || tensor.offset == end));
      CORTEX_CHECK(tensor.offset <= size && tensor.bytes <= size - tensor.offset);
      const auto element_bytes = static_cast<std::uint64_t>(layout_of(tensor.dtype).block_bytes);
      CORTEX_CHECK(tensor.bytes == static_cast<std::uint64_t>(tensor.elements()) * element_bytes);
      end = tensor.offset + tensor.bytes;
    }
  } catch (const Error& error) {
    check_refusal(error);
  }
  return 0;
}
