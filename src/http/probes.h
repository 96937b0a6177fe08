// The probes: /healthz in full, /livez, /readyz, /startupz and the names other servers give them. They read what the
// engine last reported and nothing else: no queue, no worker call. Any thread.
#pragma once

#include <atomic>
#include <chrono>

#include "base/clock.h"
#include "engine/engine.h"
#include "http/exchange.h"
#include "service/health.h"
#include "service/models.h"

namespace cortex {

class Probes {
 public:
  Probes(const Models& models, const Engine& engine, HealthRules rules, const Clock& clock);

  void start_draining() { draining_ = true; }

  // Anonymous callers see status and reasons only.
  void healthz(HttpReply& reply, bool anonymous);
  void livez(HttpReply& reply);
  void readyz(HttpReply& reply);
  void startupz(HttpReply& reply);
  // /health, /v1/health, /ping: llama.cpp's bodies.
  void health(HttpReply& reply);

 private:
  Health assess_now(EngineStatus* engine);
  std::string health_json(const Health& health, const EngineStatus& engine, bool anonymous) const;

  const Models& models_;
  const Engine& engine_;
  HealthRules rules_;
  const Clock& clock_;
  std::chrono::steady_clock::time_point started_;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> was_ready_ = false;
};

}  // namespace cortex
