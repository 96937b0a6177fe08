#include "service/admission.h"

#include <fmt/core.h>

namespace cortex {

Engine& Admission::enter(const std::string& model) const {
  const EngineStatus engine = engine_.status();
  if (engine.state == EngineState::dead || engine.state == EngineState::restarting ||
      engine.state == EngineState::stalled) {
    throw Error(ErrorCode::engine_unavailable, fmt::format("the engine is {}; try again later", name_of(engine.state)));
  }
  for (const auto& status : engine.models) {
    if (status.name != model) continue;
    if (status.state == ModelState::failed) {
      throw Error(ErrorCode::model_failed, fmt::format("model: \"{}\" can't be loaded: {}", model, status.failure),
                  "model");
    }
    if (status.state != ModelState::ready) {
      throw Error(ErrorCode::model_loading,
                  fmt::format("model: \"{}\" is loading, {:.0f} % done", model, 100 * status.progress), "model");
    }
  }
  if (engine.waiting >= most_waiting_) {
    throw Error(ErrorCode::queue_full,
                fmt::format("{} requests wait already; the limit is {}", engine.waiting, most_waiting_));
  }
  return engine_;
}

}  // namespace cortex
