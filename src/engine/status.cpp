#include "engine/status.h"

#include "base/error.h"

namespace cortex {

std::string_view name_of(ModelState state) {
  switch (state) {
    case ModelState::unloaded:
      return "unloaded";
    case ModelState::loading:
      return "loading";
    case ModelState::ready:
      return "ready";
    case ModelState::failed:
      return "failed";
  }
  check_failed("a ModelState of the enumeration", __FILE__, __LINE__);
}

std::string_view name_of(EngineState state) {
  switch (state) {
    case EngineState::idle:
      return "idle";
    case EngineState::running:
      return "running";
    case EngineState::stalled:
      return "stalled";
    case EngineState::failing:
      return "failing";
    case EngineState::restarting:
      return "restarting";
    case EngineState::dead:
      return "dead";
  }
  check_failed("an EngineState of the enumeration", __FILE__, __LINE__);
}

}  // namespace cortex
