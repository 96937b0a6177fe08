// Brings a model from its files onto a device: opens it, picks the backend that can execute it, has that load the
// weights. Owns the backends, which outlive what they load. Used by one thread, the engine's loader thread; what it
// hands out belongs to the engine thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "backend/backend.h"
#include "engine/engine.h"
#include "engine/request_checks.h"
#include "model/model.h"

namespace cortex {

using OpenModel = std::function<Model(const ModelConfig&)>;
using OpenBackend = std::function<std::unique_ptr<Backend>(std::string_view name, const BackendOptions&)>;

struct LoadedModel {
  std::string backend;
  std::string device;
  RequestLimits limits;
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
  // feature that each lacks.
  LoadedModel load(const ModelConfig& config, const LoadProgress& progress);

 private:
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
