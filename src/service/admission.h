// The door to the engine: new work is refused here, from what the engine last reported, before anything is queued.
// Owned by the front; any thread.
#pragma once

#include <string>

#include "engine/engine.h"

namespace cortex {

class Admission {
 public:
  Admission(Engine& engine, int most_waiting) : engine_(engine), most_waiting_(most_waiting) {}

  // The engine, when it can take work for this model now. Throws Error engine_unavailable, model_failed, model_loading
  // or queue_full.
  Engine& enter(const std::string& model) const;

 private:
  Engine& engine_;
  int most_waiting_;  // requests
};

}  // namespace cortex
