#include "cli/estimate.h"

#include <fmt/core.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/excerpt.h"
#include "base/log.h"
#include "base/resident_memory.h"
#include "cli/packaged_models.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

std::string budget_of(std::uint64_t bytes) {
  constexpr std::uint64_t kMebibyte = 1 << 20;
  return fmt::format("--memory-budget {}MiB", (bytes + kMebibyte - 1) / kMebibyte);
}

std::string_view weights_of(WeightPrecision precision) {
  switch (precision) {
    case WeightPrecision::as_given:
      return "as_given";
    case WeightPrecision::bits_8:
      return "q8";
    case WeightPrecision::bits_4:
      return "q4";
  }
  return "as_given";
}

void advise_where_it_does_not_fit(const MemoryEstimate& estimate, const MemoryPlan& least, bool limited,
                                  std::vector<std::string>* advice) {
  if (limited || least.total_bytes() <= estimate.budget_bytes) {
    advice->push_back(fmt::format("{}: {}", budget_of(least.total_bytes()), to_text(least)));
  }
  if (estimate.kv_bytes > 0) advice->emplace_back("a smaller context_length or fewer sequences");
  advice->emplace_back("a smaller model, or a smaller quantisation of it");
}

bool leads_up(const fs::path& path) { return std::find(path.begin(), path.end(), "..") != path.end(); }

bool is_below(const fs::path& folder, const fs::path& path) {
  const auto [rest, ignored] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return rest == folder.end() && path != folder;
}

// Links followed; nothing for what is not there.
std::optional<fs::path> resolved(const FileSystem& files, const fs::path& path) {
  try {
    if (path.empty() || !files.exists(path)) return std::nullopt;
    return files.canonical(path);
  } catch (const std::system_error&) {
    return std::nullopt;
  }
}

std::optional<fs::path> find_by_name(const FileSystem& files, const ModelPlaces& places, const std::string& text) {
  if (const PackagedModel* packaged = find_packaged_model(text); packaged && !places.packaged.empty()) {
    fs::path path = places.packaged / packaged->file;
    if (files.exists(path)) return path;
  }
  const auto name = parse_hub_name(text);
  return name ? HubCache(files, places.hub).find_model(*name) : std::nullopt;
}

[[noreturn]] void refuse_place(const std::string& text) {
  throw Error(
      ErrorCode::invalid_value,
      fmt::format("model: {} is neither a configured model nor below the folders where models are kept", excerpt(text)),
      "model");
}

fs::path find_by_path(const FileSystem& files, const ModelPlaces& places, const std::string& text) {
  const fs::path asked(text);
  if (text.find('\0') != std::string::npos || leads_up(asked)) refuse_place(text);
  bool within = !asked.is_absolute();
  for (const fs::path& place : {places.hub, places.packaged}) {
    const auto root = resolved(files, place);
    if (!root) continue;
    const fs::path path = asked.is_absolute() ? asked : place / asked;
    within = within || is_below(place, asked) || is_below(*root, asked);
    const auto there = resolved(files, path);
    if (!there) continue;
    if (!is_below(*root, *there)) refuse_place(text);
    return files.is_directory(path) ? model_in_folder(files, path) : path;
  }
  if (!within) refuse_place(text);
  throw Error(ErrorCode::model_not_found, fmt::format("model: there is no model {}", excerpt(text)), "model");
}

}  // namespace

MemoryEstimate estimate_model(const fs::path& model, const EstimateOptions& options, std::uint64_t ceiling_bytes) {
  const PlanOutcome outcome = estimate_memory(model, options);
  const MemoryPlan& plan = outcome.plan ? *outcome.plan : outcome.least;
  MemoryEstimate estimate;
  estimate.budget_bytes = options.budget_bytes.value_or(ceiling_bytes);
  // Without a budget too, no more compiled grammars are counted than there is room for.
  const std::uint64_t held_bytes = std::clamp(estimate.budget_bytes, plan.least_bytes(), plan.total_bytes());
  estimate.fits = outcome.plan && held_bytes <= estimate.budget_bytes;
  estimate.weight_bytes = plan.weight_bytes;
  estimate.kv_bytes = plan.kv_bytes;
  estimate.activation_bytes = plan.step_bytes;
  estimate.grammar_bytes = plan.grammar_bytes() - (plan.total_bytes() - held_bytes);
  estimate.weights = weights_of(plan.weights);
  estimate.kv = plan.kv_8_bits ? "q8" : "bf16";
  estimate.blocks = plan.kv_blocks;
  estimate.streaming = plan.resident_layers < plan.layers;
  if (!estimate.fits) {
    advise_where_it_does_not_fit(estimate, outcome.least, options.budget_bytes.has_value(), &estimate.advice);
  } else if (options.budget_bytes) {
    EstimateOptions unlimited = options;
    unlimited.budget_bytes.reset();
    const PlanOutcome whole = estimate_memory(model, unlimited);
    if (whole.plan && to_text(*whole.plan) != to_text(plan)) {
      estimate.advice.push_back(fmt::format("{}: {}", budget_of(whole.plan->least_bytes()), to_text(*whole.plan)));
    }
  }
  return estimate;
}

fs::path find_askable_model(const FileSystem& files, const ModelPlaces& places,
                            const std::vector<ModelConfig>& configured, const std::string& text) {
  for (const ModelConfig& model : configured) {
    if (model.name == text) return model.path;
  }
  if (auto path = find_by_name(files, places, text)) return *std::move(path);
  return find_by_path(files, places, text);
}

EstimateMemory memory_estimator(const FileSystem& files, ModelPlaces places, EngineOptions engine,
                                std::uint64_t cache_bytes) {
  return [&files, places = std::move(places), engine = std::move(engine), cache_bytes](const MemoryQuestion& question) {
    const fs::path path = find_askable_model(files, places, engine.models, question.model);
    EstimateOptions options;
    options.backend = engine.backend;
    options.threads = engine.threads;
    options.exact = engine.exact;
    const auto configured = std::ranges::find(engine.models, question.model, &ModelConfig::name);
    if (configured != engine.models.end()) options.kind = configured->kind;
    options.context_tokens = question.context_tokens;
    options.sequences = question.sequences.value_or(1);
    options.may_stream = !engine.stream_dir.empty();
    options.budget_bytes = engine.memory_bytes;
    try {
      MemoryEstimate estimate = estimate_model(path, options, memory_ceiling_bytes());
      // What has no KV makes vectors, and the front may keep those.
      if (estimate.blocks == 0) estimate.cache_bytes = cache_bytes;
      return estimate;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::invalid_value) throw;
      // It may name files.
      log_error(fmt::format("estimate of {}: {}", question.model, error.message()));
      throw Error(ErrorCode::model_failed,
                  fmt::format("model: {} can't be read as a model; the log says why", excerpt(question.model)),
                  "model");
    }
  };
}

}  // namespace cortex
