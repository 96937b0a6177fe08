// What Boost asserts, as an exception: CMake defines BOOST_ENABLE_ASSERT_HANDLER for all that include Boost, so that an
// assertion of its HTTP parser that a client's bytes break ends that client's connection, not the process. Thrown on
// the listener's threads; caught where a connection reads its request, sends its reply or ends. An assertion inside a
// noexcept function or a destructor still ends the process.
#pragma once

#include <stdexcept>

namespace cortex {

class BoostAssertion : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

}  // namespace cortex
