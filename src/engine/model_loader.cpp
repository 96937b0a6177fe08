#include "engine/model_loader.h"

#include <fmt/core.h>

#include "base/error.h"
#include "base/file_system.h"
#include "base/log.h"
#include "model/fingerprint.h"

namespace cortex {

ModelLoader::ModelLoader(std::string backend, BackendOptions options, bool fingerprints, OpenModel open_model,
                         OpenBackend open_backend)
    : backend_(std::move(backend)),
      options_(options),
      fingerprints_(fingerprints),
      open_model_(open_model
                      ? std::move(open_model)
                      : [](const ModelConfig& config) { return cortex::open_model(real_file_system(), config.path); }),
      open_backend_(open_backend ? std::move(open_backend) : OpenBackend(cortex::open_backend)) {}

LoadedModel ModelLoader::load(const ModelConfig& config, const LoadProgress& progress) {
  const Model model = open_model_(config);
  LoadedModel loaded;
  loaded.limits.vocabulary = model.vocabulary();
  loaded.limits.context_tokens = model.context_tokens();
  const auto note = [&](const Backend& chosen) {
    loaded.backend = chosen.name();
    loaded.device = chosen.device();
  };
  if (const auto* decoder = std::get_if<DecoderModel>(&model.network)) {
    Backend& chosen = choose(decoder->spec);
    note(chosen);
    loaded.limits.decoder = true;
    if (fingerprints_) loaded.fingerprint = fingerprint_of(real_file_system(), model.path);
    loaded.decoder = chosen.load(decoder->spec, decoder->weights, progress);
  } else {
    const auto& encoder = std::get<EncoderModel>(model.network);
    Backend& chosen = choose(encoder.spec);
    note(chosen);
    loaded.limits.token_types = encoder.spec.token_types;
    loaded.encoder = chosen.load(encoder.spec, encoder.weights, progress);
  }
  return loaded;
}

Backend& ModelLoader::backend(const std::string& name) {
  auto& opened = backends_[name];
  if (!opened) opened = open_backend_(name, options_);
  return *opened;
}

template <typename Spec>
Backend& ModelLoader::choose(const Spec& spec) {
  Backend& first = backend(backend_);
  const auto missing = first.lacks(spec);
  if (!missing) return first;
  std::string reasons = fmt::format("backend {} lacks {}", first.name(), *missing);
  for (const char* name : {"mlx", "cpu"}) {
    if (backend_ != "auto" || first.name() == name) continue;
    try {
      Backend& other = backend(name);
      const auto other_missing = other.lacks(spec);
      if (!other_missing) {
        log_info(fmt::format("{}; taking {}", reasons, name));
        return other;
      }
      reasons += fmt::format("; backend {} lacks {}", name, *other_missing);
    } catch (const Error& error) {
      reasons += "; " + error.message();
    }
  }
  throw Error(ErrorCode::model_failed, reasons);
}

}  // namespace cortex
