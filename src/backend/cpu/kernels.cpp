#include "backend/cpu/kernels.h"

#include <fmt/core.h>

#include <cstdlib>
#include <string>

#include "base/error.h"

namespace cortex {

std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> usable = {&kPortableKernels};
#ifdef CORTEX_X86_KERNELS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    usable.push_back(&kAvx2Kernels);
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) {
    usable.push_back(&kAvx512Kernels);
  }
#endif
  return usable;
}

const Kernels& kernels_named(std::string_view name) {
  const std::vector<const Kernels*> usable = usable_kernels();
  if (name.empty()) return *usable.back();
  std::string known;
  for (const Kernels* kernels : usable) {
    if (kernels->name == name) return *kernels;
    known.append(known.empty() ? "" : ", ").append(kernels->name);
  }
  throw Error(ErrorCode::invalid_option,
              fmt::format("CORTEX_CPU_ISA: \"{}\" is not one of what this processor can run: {}", name, known));
}

const Kernels& kernels() {
  static const Kernels& chosen = []() -> const Kernels& {
    const char* name = std::getenv("CORTEX_CPU_ISA");
    return kernels_named(name == nullptr ? "" : name);
  }();
  return chosen;
}

}  // namespace cortex
