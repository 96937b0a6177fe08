#include "engine/failing_allocation.h"

#include <cstdlib>
#include <new>

namespace {

enum class Failing { none, once, all };
thread_local Failing failing = Failing::none;
thread_local int left = 0;
thread_local bool failed = false;

bool fails() {
  if (failing == Failing::none || (failing == Failing::once && left-- > 0)) return false;
  if (failing == Failing::once) failing = Failing::none;
  failed = true;
  return true;
}

void* allocate(std::size_t bytes) { return fails() ? nullptr : std::malloc(bytes > 0 ? bytes : 1); }

}  // namespace

void* operator new(std::size_t bytes) {
  if (void* memory = allocate(bytes)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace cortex {

void fail_allocation_after(int allocations) {
  failed = false;
  left = allocations;
  failing = Failing::once;
}

void fail_every_allocation() {
  failed = false;
  failing = Failing::all;
}

bool allow_allocations() {
  failing = Failing::none;
  return failed;
}

}  // namespace cortex
