// A library that answers as NVIDIA's does, for three GPUs: one in good order, one that is hot and nearly full, and one
// that can't be read.
#include <cstdint>

extern "C" {

struct FakeMemory {
  unsigned long long total, free, used;
};

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 3;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = reinterpret_cast<void*>(std::uintptr_t{index} + 1);
  return index == 2 ? 15 : 0;
}
int nvmlDeviceGetMemoryInfo(void* device, FakeMemory* memory) {
  const bool full = device == reinterpret_cast<void*>(std::uintptr_t{2});
  *memory = {1000, full ? 40ull : 500ull, full ? 960ull : 500ull};
  return 0;
}
int nvmlDeviceGetCurrentClocksEventReasons(void* device, unsigned long long* reasons) {
  *reasons = device == reinterpret_cast<void*>(std::uintptr_t{2}) ? 0x20 | 0x4 : 0x1;
  return 0;
}
}
