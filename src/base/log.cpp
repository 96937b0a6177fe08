#include "base/log.h"

#include <fmt/core.h>
#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <mutex>
#include <string>

namespace cortex {
namespace {

// What a pipe takes at once when it is writable at all.
constexpr std::size_t kLongestLineBytes = 4096;

// Writes a line to standard error if that takes it now, else drops it: a reader that has stopped must not stop the
// server. The next line that gets through says how many were lost.
class StandardErrorSink : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    std::string line(formatted.data(), std::min(formatted.size(), kLongestLineBytes - 1));
    if (!line.ends_with('\n')) line.push_back('\n');
    if (lost_ > 0 && write(fmt::format("{} lines of the log were lost\n", lost_))) lost_ = 0;
    if (!write(line)) ++lost_;
  }

  void flush_() override {}

 private:
  static bool write(const std::string& line) {
    pollfd output{STDERR_FILENO, POLLOUT, 0};
    if (::poll(&output, 1, 0) != 1 || (output.revents & POLLOUT) == 0) return false;
    ssize_t written = 0;
    do {
      written = ::write(STDERR_FILENO, line.data(), line.size());
    } while (written < 0 && errno == EINTR);
    return written == static_cast<ssize_t>(line.size());
  }

  int lost_ = 0;
};

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// A message may repeat foreign text, which must not make lines of its own or talk to a terminal.
std::string one_line(std::string_view message) {
  std::string line;
  for (const char c : message) {
    if (is_control(c)) {
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  return line;
}

void write(spdlog::level::level_enum level, std::string_view message, std::string_view request_id) {
  spdlog::log(level, "[{}] {}", request_id, one_line(message));
}

}  // namespace

void start_log(LogLevel least, std::string_view process) {
  auto logger = std::make_shared<spdlog::logger>(std::string(process), std::make_shared<StandardErrorSink>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %n %v");
  logger->set_error_handler([](const std::string&) {});
  switch (least) {
    case LogLevel::debug:
      logger->set_level(spdlog::level::debug);
      break;
    case LogLevel::info:
      logger->set_level(spdlog::level::info);
      break;
    case LogLevel::warning:
      logger->set_level(spdlog::level::warn);
      break;
    case LogLevel::error:
      logger->set_level(spdlog::level::err);
      break;
  }
  spdlog::set_default_logger(std::move(logger));
}

void log_debug(std::string_view message, std::string_view request_id) {
  write(spdlog::level::debug, message, request_id);
}
void log_info(std::string_view message, std::string_view request_id) {
  write(spdlog::level::info, message, request_id);
}
void log_warning(std::string_view message, std::string_view request_id) {
  write(spdlog::level::warn, message, request_id);
}
void log_error(std::string_view message, std::string_view request_id) {
  write(spdlog::level::err, message, request_id);
}

}  // namespace cortex
