// An error that knows when it may be over, such as a full queue; whoever catches an Error has it too, and the front
// tells the client. Thrown by value, by any thread.
#pragma once

#include <string>
#include <utility>

#include "base/error.h"

namespace cortex {

class TryLater : public Error {
 public:
  TryLater(ErrorCode code, std::string message, double wait_s) : Error(code, std::move(message)), wait_s_(wait_s) {}

  // Seconds after which another try makes sense.
  double wait_s() const { return wait_s_; }

 private:
  double wait_s_;
};

}  // namespace cortex
