// The probes: /healthz in full, /livez, /readyz, /startupz and the names other servers give them. They read what the
// engine and the guards last reported and nothing else: no queue, no worker call. Any thread.
#pragma once

#include <atomic>
#include <chrono>

#include "base/clock.h"
#include "engine/engine.h"
#include "guard/guard.h"
#include "http/exchange.h"
#include "service/health.h"
#include "service/models.h"

namespace cortex {

class Probes {
 public:
  Probes(const Models& models, const Engine& engine, const Guard& guard, HealthRules rules, const Clock& clock);

  void start_draining() { draining_ = true; }

  // Anonymous callers see status and reasons only.
  void healthz(HttpReply& reply, bool anonymous);
  void livez(HttpReply& reply);
  void readyz(HttpReply& reply);
  void startupz(HttpReply& reply);
  // /health, /v1/health, /ping: llama.cpp's bodies.
  void health(HttpReply& reply);

 private:
  struct Seen {
    EngineStatus engine;
    GuardStatus guard;
  };

  Health assess_now(Seen* seen);
  std::string health_json(const Health& health, const Seen& seen, bool anonymous) const;

  const Models& models_;
  const Engine& engine_;
  const Guard& guard_;
  HealthRules rules_;
  const Clock& clock_;
  std::chrono::steady_clock::time_point started_;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> was_ready_ = false;
};

}  // namespace cortex
