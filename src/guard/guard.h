// Keeps memory and heat from reaching the user: reads the sensors, lets the governor judge, and tells the engine's side
// the level at every change and at least every second. Made by the front, which starts and stops it; a thread of its
// own does the work. Every change of a monitor's level is a line in the log and is counted.
//
// Monitors: memory (memory_sensor.h, the GPU's), thermal (thermal_sensor.h, the GPU's), step_drift (drift_sensor.h).
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "guard/governor.h"
#include "guard/memory_limits.h"
#include "guard/self_test.h"
#include "guard/sensor.h"

namespace cortex {

struct GuardOptions {
  std::filesystem::path sysroot = "/";                    // holds proc/ and sys/
  std::map<std::string, std::filesystem::path> injected;  // "memory", "thermal": a file that is read in their place
  MemoryLimits memory;
  std::optional<double> temperature_limit_celsius;
  std::chrono::milliseconds memory_dwell{10'000};
  std::chrono::milliseconds thermal_dwell{30'000};
  std::chrono::milliseconds memory_every{250};
  std::chrono::milliseconds thermal_every{1'000};
  std::chrono::milliseconds tell_every{1'000};
  std::chrono::milliseconds self_test_patience{30'000};
};

// How often a level followed another: [from][to].
using LevelChanges = std::array<std::array<std::uint64_t, kHighestLevel + 1>, kHighestLevel + 1>;

struct MonitorStatus {
  std::string name;
  int level = 0;
  std::optional<double> pressure;  // absent: the machine does not tell
  std::optional<double> age_s;     // of the pressure
  double since_s = 0.0;            // the level is what it is
  bool stale = false;
  std::string source;  // what told; "none" when nothing did
  std::uint64_t used_bytes = 0, ceiling_bytes = 0;
  LevelChanges changes{};
};

struct GuardStatus {
  int level = 0;
  ErrorCode cause = ErrorCode::memory_pressure;  // or thermal_throttled: which of them has that level
  std::vector<MonitorStatus> monitors;
  std::array<double, kHighestLevel + 1> below_s{};  // the least time until the level is under that one
  std::vector<std::string> injected;                // monitors that read a file
  SelfTestState self_test = SelfTestState::raising;

  // Null for a name that there is none of.
  const MonitorStatus* find(std::string_view name) const;
};

class Guard {
 public:
  using ReadLoad = std::function<EngineLoad()>;
  using Tell = std::function<void(int level, ErrorCode cause)>;

  // Both are called by the guard's thread only. Throws Error invalid_option for an injected monitor that there is not.
  Guard(GuardOptions options, const Clock& clock, ReadLoad read_load, Tell tell);
  ~Guard();

  // The first look is the caller's.
  void start();
  // After it has returned nothing is called any more.
  void stop();

  // One look at whatever is due. The thread's; tests that have not started it call it themselves.
  void turn();

  // Any thread; never waits for a sensor.
  GuardStatus status() const;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Watched {
    std::chrono::milliseconds every{0};
    std::optional<TimePoint> due;
    std::vector<std::unique_ptr<Sensor>> sensors;
    std::optional<Reading> reading;  // the last
    LevelChanges changes{};
  };

  void watch(const std::string& name, std::chrono::milliseconds every, std::vector<std::unique_ptr<Sensor>> sensors);
  void run();
  void look_at_all();
  void look(std::size_t monitor, const EngineLoad& load, TimePoint now);
  void follow_self_test(const EngineLoad& load, TimePoint now);
  void tell(TimePoint now);
  void publish(TimePoint now);
  ErrorCode cause() const;

  const GuardOptions options_;
  const Clock& clock_;
  const ReadLoad read_load_;
  const Tell tell_;

  // The thread's.
  Governor governor_;
  std::vector<Watched> watched_;  // as the governor's monitors, but for the last, the self-test's
  SelfTest self_test_;
  std::optional<int> told_;
  TimePoint told_at_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  bool stopping_ = false;
  TimePoint published_;
  GuardStatus status_;
  std::thread thread_;
};

}  // namespace cortex
