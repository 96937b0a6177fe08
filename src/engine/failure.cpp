#include "engine/failure.h"

#include <fmt/core.h>

#include <new>

#include "base/log.h"

namespace cortex {
namespace {

// Short enough to need no allocation.
Error out_of_memory(ErrorCode code) { return {code, "out of memory"}; }

Error internal_error(const char* what) noexcept {
  try {
    return {ErrorCode::internal_error, what};
  } catch (const std::bad_alloc&) {
    return out_of_memory(ErrorCode::internal_error);
  }
}

// A client's doing, not a fault.
bool is_expected(ErrorCode code) { return code < ErrorCode::queue_full || code == ErrorCode::deadline_exceeded; }

}  // namespace

Error caught_error() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return copy_of(error);
  } catch (const std::bad_alloc&) {
    return out_of_memory(ErrorCode::internal_error);
  } catch (const std::exception& error) {
    return internal_error(error.what());
  } catch (...) {
    return internal_error("an exception of an unknown type");
  }
}

Error copy_of(const Error& error) noexcept {
  try {
    return error;
  } catch (const std::bad_alloc&) {
    return out_of_memory(error.code());
  }
}

void log_failure(std::string_view what, const Error& error, std::string_view trace) noexcept {
  try {
    const std::string line = fmt::format("{}: {}: {}", what, name_of(error.code()), error.message());
    is_expected(error.code()) ? log_debug(line, trace) : log_error(line, trace);
  } catch (...) {  // NOLINT(bugprone-empty-catch): without memory for the line there is none
  }
}

}  // namespace cortex
