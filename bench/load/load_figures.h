// What was measured of each request, and the figures that are made of many. Times are milliseconds. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/load/chat_chunk.h"

namespace cortex {

struct ChatRun {
  double start_ms = 0.0;         // when it came, after the beginning of all
  double end_ms = 0.0;           // when its reply was complete
  std::vector<double> piece_ms;  // when each piece of text came, after the beginning of all
  ChatUsage usage;
  std::string finish_reason;
  std::string error = "no complete reply";  // empty when it went well

  // From its start; 0 without any text.
  double first_token_ms() const { return piece_ms.empty() ? 0.0 : piece_ms.front() - start_ms; }
  // The mean time of a token after the first piece; 0 where there was one piece.
  double token_ms() const;
};

struct EmbedRun {
  double ms = 0.0;
  std::string error = "no complete reply";
};

// Of some values: the least that so many of 100 do not exceed (the nearest rank). 0 where there are none.
struct Spread {
  double p50 = 0.0, p90 = 0.0, p99 = 0.0, max = 0.0;
};

// The value of that rank; `sorted` is not empty, 0 < share <= 1.
double percentile(std::span<const double> sorted, double share);
Spread spread_of(std::vector<double> values);

// What a chat must reach to count as good.
struct ServiceGoal {
  double first_token_ms = 2000.0;
  double token_ms = 100.0;  // the mean after the first
};

struct ChatFigures {
  int chats = 0;
  int failed = 0;
  int good = 0;              // went well within the goal
  int ended_at_limit = 0;    // by the number of tokens that were asked for
  ChatUsage usage;           // of all that went well
  Spread first_token_ms;     // of those that went well, as all below
  Spread between_tokens_ms;  // between two pieces of text of a chat
  double wall_ms = 0.0;      // from the first start to the last end
  double output_tokens_per_s = 0.0;
  double total_tokens_per_s = 0.0;  // prompts too, cached ones included
  double good_tokens_per_s = 0.0;   // output of good chats

  // The share of the prompts that came out of a cache.
  double hit_rate() const;
};

ChatFigures figures_of(std::span<const ChatRun> runs, const ServiceGoal& goal);

}  // namespace cortex
