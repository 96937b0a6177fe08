// Sends what a plan says to a server over HTTP and times what comes back, with one thread and a connection a request.
// Main's thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/load/load_figures.h"
#include "bench/load/load_plan.h"

namespace cortex {

struct LoadTarget {
  std::string host = "127.0.0.1";
  std::string port = "8080";
  std::string api_key;  // empty: none
  pid_t process = 0;    // whose memory is watched, and its children's; 0: none

  // "http://HOST[:PORT]", maybe with a "/" after it. Throws Error invalid_option for anything else.
  static LoadTarget of_url(const std::string& url);
};

struct LoadResult {
  std::vector<ChatRun> chats;  // in the order of the plan
  std::optional<ChatRun> long_chat;
  std::vector<EmbedRun> embeds;
  double wall_ms = 0.0;
  double client_cpu_share = 0.0;  // of one core, by this process
  std::uint64_t most_bytes = 0;   // of the watched process's tree
  std::uint64_t last_bytes = 0;
};

// Ends when all requests have, or after `timeout_ms`; what is not complete then has an error. Throws Error
// invalid_option for a host that is not known.
LoadResult run_load(const LoadTarget& target, const LoadPlan& plan, double timeout_ms);

}  // namespace cortex
