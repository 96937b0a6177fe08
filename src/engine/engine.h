// The one interface between text and tokens: what the front asks of whatever runs models. LocalEngine implements it on
// its own thread in the worker, WorkerClient across the process boundary in the front, EchoEngine without any model in
// tests. Plain structs, no MLX.
//
// Every call may come from any thread and returns at once. Sinks are called on the engine's thread (one at a time per
// request), must not block and must not call back into the engine, except cancel() and status(). After its last event a
// sink is dropped and never called again.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/error.h"
#include "engine/request.h"
#include "engine/status.h"
#include "engine/step_budget.h"

namespace cortex {

// What became of a model that was to come or to go: an error, or nothing when it is so.
using ModelSink = std::function<void(std::optional<Error>)>;

class Engine {
 public:
  virtual ~Engine() = default;
  virtual void generate(GenerateRequest request, GenerateSink sink) = 0;
  virtual void encode(EncodeRequest request, EncodeSink sink) = 0;
  // Ends a request with the error `cancelled`; nothing happens when it is already over.
  virtual void cancel(RequestId id) = 0;
  virtual EngineStatus status() const = 0;
  // Obeyed from the next step on.
  virtual void set_budget(const StepBudget& budget) = 0;
  // Loads a configured model, as its first request would; at once over when it is there. Error model_not_found,
  // model_failed, or request_cannot_fit when even without all others it has no room.
  virtual void load_model(const std::string& model, ModelSink sink) = 0;
  // Unloads it; its requests end with model_loading. Error model_not_found.
  virtual void unload_model(const std::string& model, ModelSink sink) = 0;
};

}  // namespace cortex
