// Cuts a stream of server-sent events, which comes in pieces of any size, into the data of its events. Comments and
// fields other than data are passed over; lines end in LF or CRLF. One owner.
#pragma once

#include <string>
#include <string_view>

#include "base/function_ref.h"

namespace cortex {

class SseSplitter {
 public:
  // Calls `event` with the data of each event that `bytes` completes; several lines of it are joined by a line feed.
  void feed(std::string_view bytes, FunctionRef<std::string_view> event);

 private:
  void end_line(std::string_view line, FunctionRef<std::string_view> event);

  std::string line_;  // the beginning of one that is not complete
  std::string data_;  // of the event so far
  bool has_data_ = false;
};

}  // namespace cortex
