// How far a download is, on standard error: a bar that is redrawn on a terminal, a line now and then elsewhere. One
// owner; one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace cortex {

// "999 B", "1.5 KiB", "92.9 MiB".
std::string format_bytes(std::uint64_t bytes);
// "12 s", "3 min 05 s", "2 h 10 min".
std::string format_duration(std::chrono::seconds duration);
// One line of at most `width` columns; total 0 is unknown. A name that is too long keeps its end.
std::string progress_bar(std::string_view name, std::uint64_t done, std::uint64_t total, double bytes_per_s, int width);

class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Progress(std::FILE* out);
  // Ends an unfinished bar's line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // A file of `total` bytes, of which `done` are here already.
  void begin(std::string_view name, std::uint64_t done, std::uint64_t total);
  void at(std::uint64_t done);
  void end();
  // A line of its own, above the bar.
  void note(std::string_view text);

 private:
  void show(Clock::time_point now);

  std::FILE* out_;
  bool terminal_;
  bool drawn_ = false;  // a bar stands on the current line
  std::string name_;
  std::uint64_t first_ = 0, done_ = 0, total_ = 0;
  Clock::time_point begun_, shown_;
};

}  // namespace cortex
