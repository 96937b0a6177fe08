#include "backend/cpu/kernels.h"

#include <fmt/core.h>

#if defined(CORTEX_X86_KERNELS) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(CORTEX_ARM_KERNELS) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <cstdlib>
#include <string>

#include "base/error.h"

namespace cortex {
namespace {

#ifdef CORTEX_X86_KERNELS
// The registers of AMX are large, so Linux hands them out on request only: once for all threads of the process, those
// to come included.
bool may_use_amx() {
#ifdef __linux__
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
         __builtin_cpu_supports("amx-bf16") && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

#ifdef CORTEX_ARM_KERNELS
// Every processor of Apple's has what the kernels take; elsewhere the system says.
bool may_use_neon() {
#ifdef __linux__
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return true;
#endif
}
#endif

}  // namespace

std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> usable = {&kPortableKernels};
#ifdef CORTEX_X86_KERNELS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    usable.push_back(&kAvx2Kernels);
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) {
    usable.push_back(&kAvx512Kernels);
    static const bool amx = may_use_amx();
    if (amx) usable.push_back(&amx_kernels());
  }
#endif
#ifdef CORTEX_ARM_KERNELS
  if (may_use_neon()) usable.push_back(&kNeonKernels);
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
