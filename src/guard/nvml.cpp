#include "guard/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <utility>

namespace cortex {
namespace {

// As NVML's C interface has them.
using NvmlDevice = void*;
struct NvmlMemory {
  unsigned long long total = 0;
  unsigned long long free = 0;
  unsigned long long used = 0;
};
constexpr int kNvmlSuccess = 0;

// Why the clocks are lower than they could be.
constexpr std::uint64_t kHardwareSlowdown = 0x8;
constexpr std::uint64_t kSoftwareHeat = 0x20;
constexpr std::uint64_t kHardwareHeat = 0x40;

class GpuSensor : public Sensor {
 public:
  using Pressure = double (*)(const GpuState&);

  GpuSensor(std::shared_ptr<Nvml> nvml, Pressure pressure) : nvml_(std::move(nvml)), pressure_(pressure) {}

  std::optional<Reading> read(const EngineLoad& load, TimePoint /*now*/) override {
    if (!load.on_nvidia) return {};
    const std::vector<GpuState> gpus = nvml_->read();
    if (gpus.empty()) return {};
    Reading reading;
    reading.source = "nvml";
    for (const GpuState& gpu : gpus) reading.pressure = std::max(reading.pressure, pressure_(gpu));
    return reading;
  }

 private:
  const std::shared_ptr<Nvml> nvml_;
  const Pressure pressure_;
};

double memory_pressure(const GpuState& gpu) {
  if (gpu.total_bytes == 0) return 0.0;
  return std::min(static_cast<double>(gpu.used_bytes) / static_cast<double>(gpu.total_bytes), 1.0);
}

double heat_of(const GpuState& gpu) { return gpu_heat_pressure(gpu.slow_reasons); }

}  // namespace

struct Nvml::Functions {
  Functions() = default;
  Functions(const Functions&) = delete;
  Functions& operator=(const Functions&) = delete;
  ~Functions() {
    if (started) shutdown();
    if (library) ::dlclose(library);
  }

  // False when something that is needed is not there.
  bool load(const std::string& name) {
    library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    const bool complete =
        find(&init, "nvmlInit_v2") && find(&shutdown, "nvmlShutdown") && find(&get_count, "nvmlDeviceGetCount_v2") &&
        find(&get_device, "nvmlDeviceGetHandleByIndex_v2") && find(&get_memory, "nvmlDeviceGetMemoryInfo");
    // Its name before driver 535.
    const bool reasons = find(&get_reasons, "nvmlDeviceGetCurrentClocksEventReasons") ||
                         find(&get_reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
    started = complete && reasons && init() == kNvmlSuccess;
    return started;
  }

  template <typename Function>
  bool find(Function* function, const char* name) const {
    *function = reinterpret_cast<Function>(::dlsym(library, name));
    return *function != nullptr;
  }

  void* library = nullptr;
  bool started = false;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*get_count)(unsigned*) = nullptr;
  int (*get_device)(unsigned, NvmlDevice*) = nullptr;
  int (*get_memory)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*get_reasons)(NvmlDevice, unsigned long long*) = nullptr;
};

Nvml::Nvml(std::string library) : library_(std::move(library)) {}

Nvml::~Nvml() = default;

std::vector<GpuState> Nvml::read() {
  if (!std::exchange(tried_, true)) {
    functions_ = std::make_unique<Functions>();
    if (!functions_->load(library_)) functions_.reset();
  }
  unsigned count = 0;
  if (!functions_ || functions_->get_count(&count) != kNvmlSuccess) return {};
  std::vector<GpuState> gpus;
  for (unsigned i = 0; i < count; ++i) {
    NvmlDevice device = nullptr;
    NvmlMemory memory;
    unsigned long long reasons = 0;
    if (functions_->get_device(i, &device) != kNvmlSuccess || functions_->get_memory(device, &memory) != kNvmlSuccess) {
      continue;
    }
    // Some GPUs don't tell.
    if (functions_->get_reasons(device, &reasons) != kNvmlSuccess) reasons = 0;
    gpus.push_back({memory.total, memory.used, reasons});
  }
  return gpus;
}

double gpu_heat_pressure(std::uint64_t slow_reasons) {
  if (slow_reasons & (kHardwareHeat | kHardwareSlowdown)) return 0.95;
  return slow_reasons & kSoftwareHeat ? 0.90 : 0.0;
}

std::unique_ptr<Sensor> make_gpu_memory_sensor(std::shared_ptr<Nvml> nvml) {
  return std::make_unique<GpuSensor>(std::move(nvml), memory_pressure);
}

std::unique_ptr<Sensor> make_gpu_heat_sensor(std::shared_ptr<Nvml> nvml) {
  return std::make_unique<GpuSensor>(std::move(nvml), heat_of);
}

}  // namespace cortex
