// The front: everything of `cortex serve` but the engine and the models. It owns the services, the text threads and the
// listener, and puts them together. Made and ended by main's thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "base/clock.h"
#include "engine/engine.h"
#include "guard/guard.h"
#include "http/listener.h"
#include "service/conversations.h"
#include "service/health.h"
#include "service/memory_estimate.h"
#include "service/models.h"

namespace cortex {

struct FrontOptions {
  ListenerOptions listener;  // dispatch and observe are the front's own
  std::filesystem::path conversations = ":memory:";
  ConversationLimits conversation_limits;
  HealthRules health;
  GuardOptions guard;
  bool vllm_metrics = false;                              // /metrics has vLLM's names too
  std::size_t embed_cache_bytes = std::size_t{64} << 20;  // of vectors and scores of texts; 0 keeps none
  int most_under_way = 576;                               // requests that run or wait
  int text_threads = 2;
  EstimateMemory estimate;  // of POST /estimate; without it there is none
};

class Front {
 public:
  // Binds and serves. Throws Error as Conversations does, std::system_error when the address can't be had.
  Front(FrontOptions options, const Models& models, Engine& engine, const Clock& clock);
  // The engine must have ended its requests before, or be destroyed after stop().
  ~Front();

  std::uint16_t port() const;
  // Whether the guards move the engine, which is tried once, as soon as the engine answers.
  SelfTestState self_test() const;

  // The steps of going down, in order: the probes say so; new work is refused; what runs is waited for (false when it
  // is not over in time); every connection is cut and no thread of the front calls the engine any more.
  void announce_drain();
  void drain();
  bool wait_until_idle(std::chrono::milliseconds timeout);
  void stop();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace cortex
