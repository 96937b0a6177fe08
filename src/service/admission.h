// The door to the engine: new work is refused here, before anything is queued, when the engine is away or enough of it
// is under way. Owned by the front; any thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/engine.h"
#include "guard/guard.h"
#include "service/waiting_time.h"

namespace cortex {

class Admission {
 public:
  // From kShortOnlyLevel on, a prompt of more tokens is refused.
  static constexpr std::size_t kLongPromptTokens = 1024;

  // Requests under way are those that run and those that wait.
  // `guard` may be null: then there is never any pressure.
  Admission(Engine& engine, int most_under_way, const Guard* guard = nullptr)
      : engine_(engine), most_under_way_(most_under_way), guard_(guard) {}

  // A request's stay; it is under way as long as a copy of this lives.
  class Ticket {
   public:
    Engine& engine() const { return *engine_; }
    // Throws TryLater memory_pressure or thermal_throttled for a prompt that is long for the guards' level.
    void require_short(std::size_t prompt_tokens) const;
    // The request was computed for so long, its waiting not counted: what newcomers are told to wait is made of it.
    void computed_for(double seconds) const;

   private:
    friend class Admission;
    struct Stay;
    Engine* engine_ = nullptr;
    const Guard* guard_ = nullptr;
    std::shared_ptr<Stay> stay_;
  };

  // Throws Error engine_unavailable, model_failed or model_loading, and TryLater queue_full, memory_pressure or
  // thermal_throttled.
  Ticket enter(const std::string& model);

 private:
  Engine& engine_;
  const int most_under_way_;
  const Guard* guard_;

  // Tickets may outlive the admission.
  struct UnderWay {
    std::mutex mutex;  // guards what follows
    int requests = 0;
    std::map<std::string, int> by_model;
    WaitingTime waiting_time;
  };
  std::shared_ptr<UnderWay> under_way_ = std::make_shared<UnderWay>();
};

}  // namespace cortex
