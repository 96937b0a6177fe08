// A reading that somebody writes into a file: a number from 0 to 1. It stands in for all that a monitor else reads, so
// that every level can be tried on any machine. Replace the file by renaming another over it. A file that is missing or
// holds anything else is no reading.
#pragma once

#include <filesystem>
#include <utility>

#include "guard/sensor.h"

namespace cortex {

class InjectedSensor : public Sensor {
 public:
  explicit InjectedSensor(std::filesystem::path file) : file_(std::move(file)) {}

  std::optional<Reading> read(const EngineLoad& load, TimePoint now) override;

 private:
  const std::filesystem::path file_;
};

}  // namespace cortex
