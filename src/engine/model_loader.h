// Brings a model from its files onto a device: opens it, picks the backend that can execute it, has that load the
// weights, in as much memory as it may have. Owns the backends, which outlive what they load. Used by one thread, the
// engine's loader thread; what it hands out belongs to the engine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "engine/memory_plan.h"
#include "engine/model_config.h"
#include "engine/request_checks.h"
#include "model/model.h"

namespace cortex {

using OpenModel = std::function<Model(const ModelConfig&)>;
using OpenBackend = std::function<std::unique_ptr<Backend>(std::string_view name, const BackendOptions&)>;

// What a model that is loaded may take.
struct LoadTerms {
  std::optional<std::uint64_t> memory_bytes;  // of all kinds together, beside what others have; absent: no limit
  std::vector<ModelConfig> others;            // that are to load next, and are to find room too
  bool whole = false;                         // with all its bits and layers in memory, or not at all
  std::optional<std::uint64_t> kv_bytes;      // of a decoder's pool; absent: as memory_plan.h says
  int rows_per_step = 512;
  std::string stream_dir;  // where weights that don't fit are kept packed; empty: all must fit
};

struct LoadedModel {
  std::string backend;
  std::string device;
  RequestLimits limits;
  MemoryPlan plan;                          // how it was made to fit: what it takes, its KV blocks, rows of a step
  std::string fingerprint;                  // of its files, where it is wanted
  std::unique_ptr<DecoderBackend> decoder;  // this one
  std::unique_ptr<EncoderBackend> encoder;  // or that one
};

class ModelLoader {
 public:
  // `fingerprints`: decoders get theirs. `backend` as open_backend takes it. An empty function is the machine's own:
  // open_model() and open_backend().
  ModelLoader(std::string backend, BackendOptions options, bool fingerprints, OpenModel open_model,
              OpenBackend open_backend);

  // Throws what opening and loading throw; Error model_failed when no backend can execute the model, naming the first
  // feature that each lacks, and request_cannot_fit when it has no room, with what it needs.
  LoadedModel load(const ModelConfig& config, const LoadTerms& terms, const LoadProgress& progress);
  LoadedModel load(const ModelConfig& config, const LoadProgress& progress) { return load(config, {}, progress); }

 private:
  MemoryPlan plan(const Model& model, const LoadTerms& terms);
  PlanOutcome plan_within(const Model& model, const LoadTerms& terms, std::optional<std::uint64_t> budget_bytes);
  // What is set aside for those that are to load next: all their bits, or what they can't do without.
  std::uint64_t set_aside(const LoadTerms& terms, bool all_bits);
  Backend& backend(const std::string& name);
  // The configured backend, or with "auto" another that lacks nothing.
  template <typename Spec>
  Backend& choose(const Spec& spec);

  const std::string backend_;
  const BackendOptions options_;
  const bool fingerprints_;
  const OpenModel open_model_;
  const OpenBackend open_backend_;
  std::map<std::string, std::unique_ptr<Backend>> backends_;  // by the name they were opened with
};

}  // namespace cortex
