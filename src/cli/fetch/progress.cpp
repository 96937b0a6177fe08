#include "cli/fetch/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "cli/characters.h"

namespace cortex {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kLineEvery = std::chrono::seconds(10);
constexpr int kBarColumns = 20;
constexpr int kLeastNameColumns = 8;

int columns_of(std::FILE* out) {
  winsize size{};
  return ::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string bar(double fraction) {
  const int full = static_cast<int>(fraction * kBarColumns);
  return std::string(static_cast<std::size_t>(full), '#') +
         std::string(static_cast<std::size_t>(kBarColumns - full), '.');
}

std::string fitted(std::string_view name, int columns) {
  const auto room = static_cast<std::size_t>(std::max(columns, kLeastNameColumns));
  if (name.size() <= room) return std::string(name);
  return "..." + std::string(name.substr(name.size() - (room - 3)));
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  // What would be shown as 1024.0 belongs to the next unit.
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_duration(std::chrono::seconds duration) {
  const auto s = duration.count();
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

std::string progress_bar(std::string_view name, std::uint64_t done, std::uint64_t total, double bytes_per_s,
                         int width) {
  std::string rest;
  if (total > 0) {
    const double fraction = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    rest =
        fmt::format(" [{}] {:3.0f}% {} of {}", bar(fraction), 100 * fraction, format_bytes(done), format_bytes(total));
  } else {
    rest = " " + format_bytes(done);
  }
  if (bytes_per_s > 0) rest += fmt::format(", {}/s", format_bytes(static_cast<std::uint64_t>(bytes_per_s)));
  if (bytes_per_s > 0 && total > done) {
    const auto left = static_cast<std::int64_t>(static_cast<double>(total - done) / bytes_per_s);
    rest += fmt::format(", {} left", format_duration(std::chrono::seconds(left)));
  }
  std::string line = fitted(name, width - static_cast<int>(rest.size())) + rest;
  return line.substr(0, static_cast<std::size_t>(std::max(width, 0)));
}

Progress::Progress(std::FILE* out) : out_(out), terminal_(::isatty(::fileno(out)) == 1) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\n", out_);
}

void Progress::begin(std::string_view name, std::uint64_t done, std::uint64_t total) {
  name_ = printable(name);
  first_ = done_ = done;
  total_ = total;
  begun_ = shown_ = Clock::now();
  if (terminal_) return show(begun_);
  const std::string from = done > 0 ? fmt::format(", {} of it here already", format_bytes(done)) : "";
  note(fmt::format("{}: {}{}", name_, total > 0 ? format_bytes(total) : "size unknown", from));
}

void Progress::at(std::uint64_t done) {
  done_ = done;
  const auto now = Clock::now();
  if (now - shown_ >= (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kLineEvery))) show(now);
}

void Progress::end() {
  if (!terminal_) return;
  show(Clock::now());
  std::fputs("\n", out_);
  drawn_ = false;
}

void Progress::note(std::string_view text) {
  if (drawn_) std::fputs("\r\x1b[K", out_);
  drawn_ = false;
  std::fprintf(out_, "%s\n", printable(text).c_str());
  std::fflush(out_);
}

void Progress::show(Clock::time_point now) {
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  // Over the first moments a rate would be noise.
  const double rate = seconds < 0.5 ? 0 : static_cast<double>(done_ - std::min(first_, done_)) / seconds;
  const std::string line = progress_bar(name_, done_, total_, rate, terminal_ ? columns_of(out_) - 1 : 200);
  if (terminal_) {
    std::fprintf(out_, "\r%s\x1b[K", line.c_str());
    drawn_ = true;
  } else {
    std::fprintf(out_, "%s\n", line.c_str());
  }
  std::fflush(out_);
}

}  // namespace cortex
