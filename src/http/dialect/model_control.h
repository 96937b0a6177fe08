// What the server's owner does with models: loads and unloads them, and asks whether one would fit. Stateless functions
// over the front's parts; any thread.
#pragma once

#include <memory>

#include "http/exchange.h"
#include "service/memory_estimate.h"
#include "service/models.h"

namespace cortex {

struct ModelControl {
  const Models& models;
  Engine& engine;
  EstimateMemory estimate;
};

// POST /models/load and /models/unload: {"model":"m"} -> {"model":"m","state":"ready"}, "unloaded", once it is so.
// While it loads they are 409.
void load_model(const ModelControl& control, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void unload_model(const ModelControl& control, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

// POST /estimate: {"model":"m","context_length":8192,"sequences":4} -> MemoryEstimate's fields.
void estimate_memory_of_model(const ModelControl& control, const HttpRequest& request, HttpReply& reply);

}  // namespace cortex
