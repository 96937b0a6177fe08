// What one thread can do at most, by the widest instructions that a set of kernels uses. Each function goes `turns`
// times around a loop whose operands stay in registers and says how many operations that was, a multiplication and an
// addition being two. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cortex {

struct PeakLoops {
  double (*int8)(std::size_t turns);
  double (*bf16)(std::size_t turns);
  double (*f32)(std::size_t turns);
};

// For Kernels::name.
PeakLoops peak_loops(std::string_view kernels);

// The sum of 64-bit words; `bytes` is a multiple of 128.
std::uint64_t read_in_order(const std::byte* from, std::size_t bytes);

}  // namespace cortex
