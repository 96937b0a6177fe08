#include "service/admission.h"

#include <fmt/core.h>

namespace cortex {
namespace {

void require_model(const EngineStatus& engine, const std::string& model) {
  for (const auto& status : engine.models) {
    if (status.name != model) continue;
    if (status.state == ModelState::failed) {
      throw Error(ErrorCode::model_failed, fmt::format("model: \"{}\" can't be used: {}", model, status.failure),
                  "model");
    }
    // One that comes on demand is waited for.
    if (status.state == ModelState::loading && !status.on_demand) {
      throw Error(ErrorCode::model_loading,
                  fmt::format("model: \"{}\" is loading, {:.0f} % done", model, 100 * status.progress), "model");
    }
  }
}

}  // namespace

Admission::Ticket Admission::enter(const std::string& model) {
  const EngineStatus engine = engine_.status();
  if (engine.state == EngineState::dead || engine.state == EngineState::restarting ||
      engine.state == EngineState::stalled) {
    throw Error(ErrorCode::engine_unavailable, fmt::format("the engine is {}; try again later", name_of(engine.state)));
  }
  require_model(engine, model);
  Ticket ticket;
  ticket.engine_ = &engine_;
  // Counted first, so that of many at once no more get in than may.
  const int under_way = ++*under_way_;
  ticket.stay_ = std::shared_ptr<void>(nullptr, [count = under_way_](void*) { --*count; });
  if (under_way > most_under_way_) {
    throw Error(ErrorCode::queue_full,
                fmt::format("{} requests are under way already, as many as may be", most_under_way_));
  }
  return ticket;
}

}  // namespace cortex
