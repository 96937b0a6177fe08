// A library that answers as NVIDIA's does, for three GPUs: one in good order, one that is hot and nearly full, and one
// that can't be read.
#include <array>

namespace {

struct Gpu {
  unsigned long long used = 0;
  unsigned long long slow_reasons = 0;
};

std::array<Gpu, 2> gpus = {{{500, 0x1}, {960, 0x20 | 0x4}}};

struct Memory {
  unsigned long long total = 0, free = 0, used = 0;
};

}  // namespace

// The names are NVIDIA's.
// NOLINTBEGIN(readability-identifier-naming)
extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 3;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  if (index >= gpus.size()) return 15;  // NVML_ERROR_GPU_IS_LOST
  *device = &gpus.at(index);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, Memory* memory) {
  const Gpu* gpu = static_cast<Gpu*>(device);
  *memory = {1000, 1000 - gpu->used, gpu->used};
  return 0;
}
int nvmlDeviceGetCurrentClocksEventReasons(void* device, unsigned long long* reasons) {
  *reasons = static_cast<Gpu*>(device)->slow_reasons;
  return 0;
}
}
// NOLINTEND(readability-identifier-naming)
