#include "http/boost_assertion.h"

#include <fmt/core.h>

#include <boost/assert.hpp>

namespace boost {

void assertion_failed(const char* expression, const char* function, const char* file, long line) {
  throw cortex::BoostAssertion(fmt::format("{}:{}: {} does not hold in {}", file, line, expression, function));
}

void assertion_failed_msg(const char* expression, const char* message, const char* function, const char* file,
                          long line) {
  throw cortex::BoostAssertion(
      fmt::format("{}:{}: {} does not hold in {}: {}", file, line, expression, function, message));
}

}  // namespace boost
