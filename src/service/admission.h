// The door to the engine: new work is refused here, before anything is queued, when the engine is away or enough of it
// is under way. Owned by the front; any thread.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "engine/engine.h"

namespace cortex {

class Admission {
 public:
  // Requests under way are those that run and those that wait.
  Admission(Engine& engine, int most_under_way) : engine_(engine), most_under_way_(most_under_way) {}

  // A request's stay; it is under way as long as a copy of this lives.
  class Ticket {
   public:
    Engine& engine() const { return *engine_; }

   private:
    friend class Admission;
    Engine* engine_ = nullptr;
    std::shared_ptr<void> stay_;
  };

  // Throws Error engine_unavailable, model_failed, model_loading or queue_full.
  Ticket enter(const std::string& model);

 private:
  Engine& engine_;
  const int most_under_way_;
  std::shared_ptr<std::atomic<int>> under_way_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace cortex
