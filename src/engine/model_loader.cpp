#include "engine/model_loader.h"

#include <fmt/core.h>

#include "base/error.h"
#include "base/file_system.h"
#include "base/log.h"
#include "model/fingerprint.h"

namespace cortex {

namespace {

DecoderHolding holding_of(const MemoryPlan& plan) {
  return {.weights = plan.weights,
          .kv_8_bits = plan.kv_8_bits,
          .resident_layers = plan.resident_layers < plan.layers ? plan.resident_layers : kAllLayers,
          .rows_per_step = plan.rows_per_step};
}

bool is_whole(const MemoryPlan& plan) {
  return plan.weights == WeightPrecision::as_given && !plan.kv_8_bits && plan.resident_layers == plan.layers &&
         !plan.no_grammars;
}

Model as_configured(Model model, const ModelConfig& config) {
  model.kind = config.kind.value_or(model.kind);
  return model;
}

}  // namespace

ModelLoader::ModelLoader(std::string backend, BackendOptions options, bool fingerprints, OpenModel open_model,
                         OpenBackend open_backend)
    : backend_(std::move(backend)),
      options_(options),
      fingerprints_(fingerprints),
      open_model_(open_model
                      ? std::move(open_model)
                      : [](const ModelConfig& config) { return cortex::open_model(real_file_system(), config.path); }),
      open_backend_(open_backend ? std::move(open_backend) : OpenBackend(cortex::open_backend)) {}

LoadedModel ModelLoader::load(const ModelConfig& config, const LoadTerms& terms, const LoadProgress& progress) {
  const Model model = as_configured(open_model_(config), config);
  LoadedModel loaded;
  loaded.limits.vocabulary = model.vocabulary();
  loaded.limits.context_tokens = model.context_tokens();
  loaded.plan = plan(model, terms);
  log_info(fmt::format("model {}: {}; weights {} bytes, KV {}, scratch {}, grammars {}", config.name,
                       to_text(loaded.plan), loaded.plan.weight_bytes, loaded.plan.kv_bytes, loaded.plan.step_bytes,
                       loaded.plan.grammar_bytes()));
  const auto note = [&](const Backend& chosen) {
    loaded.backend = chosen.name();
    loaded.device = chosen.device();
  };
  if (const auto* decoder = std::get_if<DecoderModel>(&model.network)) {
    Backend& chosen = choose(decoder->spec);
    note(chosen);
    loaded.limits.decoder = true;
    DecoderHolding holding = holding_of(loaded.plan);
    const bool streams = loaded.plan.resident_layers < loaded.plan.layers;
    if (fingerprints_ || streams) loaded.fingerprint = fingerprint_of(real_file_system(), model.path);
    if (streams) {
      holding.stream_folder = terms.stream_dir;
      holding.fingerprint = loaded.fingerprint;
    }
    loaded.decoder = chosen.load(decoder->spec, decoder->weights, holding, progress);
  } else {
    const auto& encoder = std::get<EncoderModel>(model.network);
    Backend& chosen = choose(encoder.spec);
    note(chosen);
    loaded.limits.token_types = encoder.spec.token_types;
    loaded.encoder = chosen.load(encoder.spec, encoder.weights, loaded.plan.weights, progress);
  }
  return loaded;
}

MemoryPlan ModelLoader::plan(const Model& model, const LoadTerms& terms) {
  if (terms.memory_bytes && terms.whole) {
    PlanOutcome outcome = plan_within(model, terms, terms.memory_bytes);
    if (outcome.plan && !is_whole(*outcome.plan)) outcome = {.plan = {}, .least = outcome.modest, .modest = {}};
    return planned(outcome, terms.memory_bytes, ErrorCode::request_cannot_fit);
  }
  if (terms.memory_bytes) {
    for (const bool all_bits : {true, false}) {
      const std::uint64_t others = set_aside(terms, all_bits);
      if (others == 0 || others > *terms.memory_bytes) continue;
      const PlanOutcome outcome = plan_within(model, terms, *terms.memory_bytes - others);
      if (outcome.plan) return *outcome.plan;
    }
  }
  return planned(plan_within(model, terms, terms.memory_bytes), terms.memory_bytes, ErrorCode::request_cannot_fit);
}

PlanOutcome ModelLoader::plan_within(const Model& model, const LoadTerms& terms,
                                     std::optional<std::uint64_t> budget_bytes) {
  if (const auto* encoder = std::get_if<EncoderModel>(&model.network)) {
    const Backend& chosen = choose(encoder->spec);
    return plan_encoder([&](WeightPrecision weights) { return needs_on(chosen, *encoder, weights); }, budget_bytes);
  }
  const auto& decoder = std::get<DecoderModel>(model.network);
  const Backend& chosen = choose(decoder.spec);
  const DecoderNeeds as_given = chosen.needs(decoder.spec, decoder.weights, {});
  const KvGeometry geometry{.block_bytes = as_given.kv_kept_bytes, .layout = {}, .numeric_class = {}};
  return plan_decoder([&](const DecoderHolding& holding) { return needs_on(chosen, decoder, holding); },
                      {.kv_blocks = kv_block_count(geometry, model.context_tokens(), terms.kv_bytes),
                       .rows_per_step = terms.rows_per_step,
                       .context_tokens = model.context_tokens(),
                       .may_stream = !terms.stream_dir.empty(),
                       .grammar_vocabulary = grammar_vocabulary_of(model, model.kind)},
                      budget_bytes);
}

std::uint64_t ModelLoader::set_aside(const LoadTerms& terms, bool all_bits) {
  std::uint64_t bytes = 0;
  for (const ModelConfig& other : terms.others) {
    try {
      const PlanOutcome outcome = plan_within(as_configured(open_model_(other), other), terms, std::nullopt);
      bytes += (all_bits ? outcome.modest : outcome.least).total_bytes();
    } catch (const Error& error) {  // its own load will say so
      log_info(fmt::format("model {}: nothing is set aside for it: {}", other.name, error.message()));
    }
  }
  return bytes;
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
