// What a request that generates was told in all, so that two of them can be compared. Any thread.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "fakes/collected_events.h"

namespace cortex {

struct Reply {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<std::pair<TokenId, float>> alternatives;
  std::optional<FinishReason> finish;
  GenerateTimings timings;

  // The same was said, however long it took.
  bool operator==(const Reply& other) const {
    return tokens == other.tokens && logprobs == other.logprobs && alternatives == other.alternatives &&
           finish == other.finish;
  }
};

// Waits for the last event; none may be an error.
inline Reply reply_of(CollectedEvents* events) {
  events->wait(std::chrono::seconds(120));
  Reply reply;
  for (const GenerateEvent& event : events->events()) {
    EXPECT_FALSE(event.error) << event.error->message();
    for (const SampledToken& token : event.tokens) {
      reply.tokens.push_back(token.token);
      reply.logprobs.push_back(token.logprob);
      for (const TokenLogprob& other : token.top_logprobs) reply.alternatives.emplace_back(other.token, other.logprob);
    }
    reply.finish = event.finish;
    if (event.timings) reply.timings = *event.timings;
  }
  return reply;
}

}  // namespace cortex
