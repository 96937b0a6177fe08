// Exceptions as Errors, where memory may be what ran out: none of these throws. Any thread.
#pragma once

#include <string_view>

#include "base/error.h"

namespace cortex {

// In a catch block: what was caught. An exception that is no Error is an internal_error.
Error caught_error() noexcept;

// A copy; its message is "out of memory" where there is none for the whole one.
Error copy_of(const Error& error) noexcept;

// A line in the log (at level debug for what a client brought about), or none. `trace` is the id of the request that
// failed.
void log_failure(std::string_view what, const Error& error, std::string_view trace = "-") noexcept;

}  // namespace cortex
