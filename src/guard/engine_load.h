// What the guards know of the engine: read by the front from the engine's status at each turn of the guard. Plain
// values.
#pragma once

#include <cstdint>

namespace cortex {

struct EngineLoad {
  bool answers = false;              // it runs and was heard of lately
  int level = 0;                     // that it acts at
  std::uint64_t resident_bytes = 0;  // of the front and its worker
  std::uint64_t device_bytes = 0;    // that the device's allocator holds; 0 where there is none
  double step_drift = 0.0;           // a step's time by what it should take; 0: not known
  bool on_nvidia = false;            // it computes there, so that card's memory and heat matter
};

}  // namespace cortex
