#include "service/admission.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/try_later.h"

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

[[noreturn]] void refuse(const GuardStatus& guard, int level, const std::string& what) {
  const bool memory = guard.cause == ErrorCode::memory_pressure;
  throw TryLater(
      guard.cause,
      fmt::format("{} at level {} of {}; try again later", what, guard.level, memory ? "memory pressure" : "heat"),
      std::max(1.0, guard.below_s.at(static_cast<std::size_t>(level))));
}

}  // namespace

void Admission::Ticket::require_short(std::size_t prompt_tokens) const {
  if (!guard_ || prompt_tokens <= kLongPromptTokens) return;
  const GuardStatus guard = guard_->status();
  if (guard.level < kShortOnlyLevel) return;
  refuse(guard, kShortOnlyLevel,
         fmt::format("a prompt of {} tokens is not taken, of which {} is the most", prompt_tokens, kLongPromptTokens));
}

struct Admission::Ticket::Stay {
  Stay(std::shared_ptr<UnderWay> among, std::string of_model)
      : under_way(std::move(among)), model(std::move(of_model)) {
    ++under_way->requests;
    ++under_way->by_model[model];
  }
  ~Stay() {
    std::lock_guard lock(under_way->mutex);
    --under_way->requests;
    --under_way->by_model[model];
  }
  Stay(const Stay&) = delete;
  Stay& operator=(const Stay&) = delete;

  const std::shared_ptr<UnderWay> under_way;
  const std::string model;
};

void Admission::Ticket::computed_for(double seconds) const {
  if (!stay_) return;
  std::lock_guard lock(stay_->under_way->mutex);
  stay_->under_way->waiting_time.note(stay_->model, seconds);
}

Admission::Ticket Admission::enter(const std::string& model) {
  const EngineStatus engine = engine_.status();
  if (engine.state == EngineState::dead || engine.state == EngineState::restarting ||
      engine.state == EngineState::stalled) {
    throw Error(ErrorCode::engine_unavailable, fmt::format("the engine is {}; try again later", name_of(engine.state)));
  }
  require_model(engine, model);
  if (guard_) {
    const GuardStatus guard = guard_->status();
    if (guard.level >= kRefusingLevel) refuse(guard, kRefusingLevel, "no new requests are taken");
  }
  Ticket ticket;
  ticket.engine_ = &engine_;
  ticket.guard_ = guard_;
  std::lock_guard lock(under_way_->mutex);
  if (under_way_->requests >= most_under_way_) {
    throw TryLater(ErrorCode::queue_full,
                   fmt::format("{} requests are under way already, as many as may be", most_under_way_),
                   under_way_->waiting_time.predict_s(under_way_->by_model, engine.running));
  }
  ticket.stay_ = std::make_shared<Ticket::Stay>(under_way_, model);
  return ticket;
}

}  // namespace cortex
