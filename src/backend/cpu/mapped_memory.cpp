#include "backend/cpu/mapped_memory.h"

#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

}  // namespace

MappedMemory::MappedMemory(std::size_t bytes) {
  if (bytes == 0) return;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(ErrorCode::memory_pressure, fmt::format("cpu backend: the system refuses {} bytes of memory", bytes));
  }
  data_ = static_cast<std::byte*>(mapped);
  size_bytes_ = bytes;
#ifdef MADV_HUGEPAGE
  if (bytes >= kHugePageBytes) madvise(mapped, bytes, MADV_HUGEPAGE);  // a wish: refusal costs speed only
#endif
}

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) munmap(data_, size_bytes_);
}

void MappedMemory::discard(std::size_t offset, std::size_t bytes) {
#ifdef __linux__
  constexpr int kAdvice = MADV_DONTNEED;
#else
  constexpr int kAdvice = MADV_FREE;
#endif
  CORTEX_CHECK(madvise(data_ + offset, bytes, kAdvice) == 0);
}

void MappedMemory::touch(std::size_t offset, std::size_t bytes) {
  for (std::size_t at = offset; at < offset + bytes; at += page_bytes()) {
    volatile std::byte* byte = data_ + at;
    *byte = *byte;
  }
}

std::size_t MappedMemory::page_bytes() {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace cortex
