// The log: one line per event on standard error with time, level and request id ("-" where there is none). Started once
// by main; any thread, none of which ever waits for it: lines that standard error does not take at once are dropped.
#pragma once

#include <string_view>

namespace cortex {

enum class LogLevel { debug, info, warning, error };

// `process` names the process in every line: "serve", "worker".
void start_log(LogLevel least, std::string_view process);

void log_debug(std::string_view message, std::string_view request_id = "-");
void log_info(std::string_view message, std::string_view request_id = "-");
void log_warning(std::string_view message, std::string_view request_id = "-");
void log_error(std::string_view message, std::string_view request_id = "-");

}  // namespace cortex
