// For x86 processors with AMX (tiles of int8 and bfloat16) beside AVX-512: that set, but for products of many rows.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels.h"
#include "backend/cpu/mapped_memory.h"

// After what is the same for every processor.
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma,f16c")
#include "backend/cpu/amx_attention.h"
#include "backend/cpu/amx_bf16_linear.h"
#include "backend/cpu/amx_int8_linear.h"

namespace cortex {
namespace {

UnpackedPanel* unpacked_panels() {
  thread_local const MappedMemory room(kUnpackedPanels * sizeof(UnpackedPanel));
  return reinterpret_cast<UnpackedPanel*>(room.data());
}

}  // namespace

const Kernels& amx_kernels() {
  static const Kernels kernels = [] {
    Kernels set = kAvx512Kernels;
    set.name = "amx";
    set.linear_int8 = linear_int8_amx;
    set.linear_bf16 = linear_bf16_amx;
    set.attend = attend_amx;
    return set;
  }();
  return kernels;
}

}  // namespace cortex
