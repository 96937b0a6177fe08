// What http_load sends and when: chats that come all at once, one after another or at random, maybe a long one in the
// middle of them, and calls of /embed beside them. Everything is made before the clock starts. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cortex {

enum class Arrival { at_once, one_after_another, poisson };

struct LoadOptions {
  std::string chat_model;   // empty: the server's default
  std::string embed_model;  // likewise
  std::uint64_t seed = 0;

  int chats = 1;
  int prompt_tokens = 128;  // about; the chat template adds its own
  int prefix_tokens = 0;    // of these, what all chats begin with
  int output_tokens = 64;   // at most
  bool ignore_eos = false;
  std::vector<std::int64_t> banned_tokens;  // ids that are never chosen
  Arrival arrival = Arrival::at_once;
  double chats_per_second = 0.0;  // for Arrival::poisson

  int long_tokens = 0;  // 0: no long prompt
  double long_after_ms = 0.0;

  int embed_calls = 0;  // one after another
  int embed_texts = 32;
  int embed_tokens = 64;          // about, of each text
  bool embed_same_texts = false;  // in each call
};

struct PlannedRequest {
  double start_ms = 0.0;  // after the beginning of all; of no meaning in a queue
  std::string body;       // JSON
};

struct LoadPlan {
  std::vector<PlannedRequest> chats;
  bool chats_are_a_queue = false;  // each begins when the one before has ended
  std::optional<PlannedRequest> long_chat;
  std::vector<PlannedRequest> embeds;  // a queue
};

LoadPlan plan_load(const LoadOptions& options);

}  // namespace cortex
