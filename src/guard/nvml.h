// NVIDIA's management library, where its driver is installed: what each GPU has of memory and why it slows down. Found
// at run time, so that nothing depends on it; the few declarations that are needed are here and in nvml.cpp. Owned by
// the two sensors that read it; one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "guard/sensor.h"

namespace cortex {

struct GpuState {
  std::uint64_t total_bytes = 0;
  std::uint64_t used_bytes = 0;
  std::uint64_t slow_reasons = 0;  // NVML's bits
};

class Nvml {
 public:
  // Loads `library` at the first read.
  explicit Nvml(std::string library = "libnvidia-ml.so.1");
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // GPUs that can't be read are left out; empty where there is no library.
  std::vector<GpuState> read();

 private:
  struct Functions;

  std::string library_;
  bool tried_ = false;
  std::unique_ptr<Functions> functions_;
};

// Reasons that mean heat or a cable's alarm: software slows it down for heat (0.90), hardware does for heat or for
// power (0.95). A power cap and idling mean nothing.
double gpu_heat_pressure(std::uint64_t slow_reasons);

// Of the GPU that is worst off; nothing unless the engine computes on one.
std::unique_ptr<Sensor> make_gpu_memory_sensor(std::shared_ptr<Nvml> nvml);
std::unique_ptr<Sensor> make_gpu_heat_sensor(std::shared_ptr<Nvml> nvml);

}  // namespace cortex
