#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>

namespace cortex {
namespace {

void write(spdlog::level::level_enum level, std::string_view message, std::string_view request_id) {
  spdlog::log(level, "[{}] {}", request_id, message);
}

}  // namespace

void start_log(LogLevel least, std::string_view process) {
  auto logger = spdlog::stderr_color_mt(std::string(process));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %n %v");
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
