// Keeps one worker process alive: starts it, notices its death or its silence, starts the next one. Owned by the
// front's WorkerClient; its events come on the supervisor's own thread.
//
// The n-th death within the window waits 0, d, 2d, 4d .. before the next start (d = restart_delay, at most
// max_restart_delay); the max_deaths-th is the end. A process that does not beat for stall_after gets SIGABRT, then
// SIGKILL; its first beat may take start_patience, where that is longer. It starts with SIGINT, SIGTERM and SIGHUP
// blocked: a terminal's ^C and a service manager's stop reach the whole group, and the front decides when the worker
// goes, by closing its stream.
//
// Invariant: a process is reaped before the next one starts, so two never share a device.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/types.h>

#include "base/descriptor.h"

namespace cortex {

struct SupervisorOptions {
  std::string executable;  // empty: this process's own
  // Behind the program's name. The worker's end of the socket pair is kWorkerDescriptor.
  std::vector<std::string> arguments = {"worker"};
  std::chrono::milliseconds restart_delay{1000};
  std::chrono::milliseconds max_restart_delay{30000};
  int max_deaths = 5;
  std::chrono::milliseconds death_window{10 * 60 * 1000};
  std::chrono::milliseconds stall_after{30000};     // at least Supervisor::kMinStallAfter
  std::chrono::milliseconds start_patience{10000};  // for loading the program, which may take longer than a turn
  std::chrono::milliseconds kill_grace{2000};       // from SIGABRT, stop() or replace() to SIGKILL
  // An idle worker that has unloaded its last model and still has so much more resident than before its first is
  // replaced; 0: never.
  std::uint64_t replace_above_bytes = std::uint64_t{64} << 20;
};

struct SupervisorEvents {
  std::function<void(Descriptor)> started;       // the front's end of the socket pair
  std::function<void()> stalled;                 // a death follows
  std::function<void(const std::string&)> died;  // how: "exit status 70", "signal 9", "could not start: ..."
  std::function<void()> gave_up;                 // after the last `died`
};

class Supervisor {
 public:
  // Shorter silences are the machine's.
  static constexpr std::chrono::milliseconds kMinStallAfter{100};

  // Throws Error invalid_option for a shorter stall_after. A process whose event throws is ended.
  Supervisor(SupervisorOptions options, SupervisorEvents events);
  ~Supervisor();  // stops, and waits for the process

  // From now on the process's end is wanted: close its socket afterwards, it has kill_grace to go. Any thread.
  void stop();

  // This process's end is wanted and another is to take its place, at once; it counts as no death. As stop(), it has
  // kill_grace to go. Nothing happens while there is none. Any thread.
  void replace();

  // The process is alive and its loop turns. Any thread.
  void beat();
  // 0 while there is none. Any thread.
  pid_t pid() const;

 private:
  using Clock = std::chrono::steady_clock;

  void run();  // the supervisor's thread
  void keep_alive();
  // One process from start to reaping; how it ended.
  std::string run_process();
  void adopt(pid_t pid);
  void watch();
  void signal_process(int signal);
  // Kills what still runs. Its wait status.
  int reap();
  void wait_for_exits();  // the waiter's thread
  void end_waiter();
  // How long to wait after this death; nothing when it was one too many.
  std::optional<std::chrono::milliseconds> delay_after_death();

  const SupervisorOptions options_;
  const SupervisorEvents events_;
  std::deque<Clock::time_point> deaths_;  // within the window; the supervisor's thread

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool replacing_ = false;  // the process that runs
  bool over_ = false;       // no process follows
  bool exited_ = false;     // the process waits to be reaped
  pid_t pid_ = 0;
  bool beaten_ = false;
  Clock::time_point last_beat_;  // or the start
  std::thread waiter_;           // there before any process is: one that runs is always waited for
  std::thread thread_;
};

}  // namespace cortex
