#include "engine/memory_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "backend/mlx_needs.h"
#include "base/file_system.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;

// A block id and the tokens of all blocks must stay below 2^31.
constexpr int kMostBlocks = std::numeric_limits<std::int32_t>::max() / kBlockTokens;

int blocks_of(int tokens) { return (tokens - 1) / kBlockTokens + 1; }

// A decoder held in some way.
struct Candidate {
  DecoderHolding holding;
  DecoderNeeds needs;
  GrammarNeeds grammars;
  bool no_grammars = false;

  void take_no_grammars() {
    no_grammars = no_grammars || grammars.total_bytes() > 0;
    grammars = {};
  }

  // What `budget` leaves for KV, in blocks; without one, as many as there can be.
  int blocks_within(std::optional<std::uint64_t> budget) const {
    if (!budget) return kMostBlocks;
    const std::uint64_t others =
        needs.weight_bytes(holding.resident_layers) + needs.step_bytes + grammars.total_bytes();
    if (others > *budget) return 0;
    return static_cast<int>(std::min<std::uint64_t>((*budget - others) / needs.kv_block_bytes, kMostBlocks));
  }

  MemoryPlan plan(int blocks) const {
    return {.weights = holding.weights,
            .kv_8_bits = holding.kv_8_bits,
            .kv_blocks = blocks,
            .rows_per_step = holding.rows_per_step,
            .layers = needs.layers(),
            .resident_layers = std::min(holding.resident_layers, needs.layers()),
            .weight_bytes = needs.weight_bytes(holding.resident_layers),
            .kv_bytes = static_cast<std::uint64_t>(blocks) * needs.kv_block_bytes,
            .step_bytes = needs.step_bytes,
            .trie_bytes = grammars.trie_bytes,
            .grammar_cache_bytes = grammars.cache_bytes,
            .no_grammars = no_grammars};
  }
};

// Kept are as many compiled grammars as what all else leaves has room for.
MemoryPlan with_grammars(MemoryPlan plan, std::optional<std::uint64_t> budget) {
  if (plan.trie_bytes == 0) return plan;
  const std::uint64_t room = budget ? *budget - plan.total_bytes() : kMostGrammarCacheBytes;
  plan.grammar_cache_bytes = std::min(kMostGrammarCacheBytes, plan.grammar_cache_bytes + room);
  return plan;
}

// The ways to hold a decoder whole, from the best to the smallest; each takes less of what it gives up for.
std::vector<Candidate> whole_candidates(const DecoderNeedsOf& needs_of, int rows_per_step) {
  std::vector<Candidate> candidates;
  std::optional<std::uint64_t> heavier;  // weights of the precision before
  for (const WeightPrecision weights : {WeightPrecision::as_given, WeightPrecision::bits_8, WeightPrecision::bits_4}) {
    std::optional<std::uint64_t> wider;  // blocks of the precision before
    for (const bool kv_8_bits : {false, true}) {
      DecoderHolding holding{.weights = weights, .kv_8_bits = kv_8_bits, .rows_per_step = rows_per_step};
      auto needs = needs_of(holding);
      if (!needs || (heavier && needs->weight_bytes(kAllLayers) >= *heavier)) break;
      if (wider && needs->kv_block_bytes >= *wider) break;
      wider = needs->kv_block_bytes;
      candidates.push_back({holding, *needs});
      while (holding.rows_per_step / 2 >= kLeastRows) {
        holding.rows_per_step /= 2;
        candidates.push_back({holding, needs_of(holding).value()});
      }
    }
    if (wider) heavier = candidates.back().needs.weight_bytes(kAllLayers);
  }
  return candidates;
}

// The smallest way, with as many layers in memory as fit beside `blocks`.
std::optional<MemoryPlan> stream(Candidate candidate, int blocks, std::optional<std::uint64_t> budget) {
  for (int resident = candidate.needs.layers() - 1; resident >= 0; --resident) {
    candidate.holding.resident_layers = resident;
    if (candidate.blocks_within(budget) >= blocks) return candidate.plan(blocks);
  }
  return std::nullopt;
}

// The first that holds `least` blocks, with as many as it can; else the smallest, streamed if it may be.
std::optional<MemoryPlan> fit(const std::vector<Candidate>& candidates, const Candidate& smallest, int wanted_blocks,
                              int least, std::optional<std::uint64_t> budget) {
  for (const Candidate& candidate : candidates) {
    const int blocks = std::min(wanted_blocks, candidate.blocks_within(budget));
    if (blocks >= least) return with_grammars(candidate.plan(blocks), budget);
  }
  return smallest.holding.resident_layers == 0 ? stream(smallest, least, budget) : std::nullopt;
}

std::string mebibytes(std::uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / static_cast<double>(kMebibyte));
}

}  // namespace

int kv_block_count(const KvGeometry& geometry, int context_tokens, std::optional<std::uint64_t> kv_bytes) {
  CORTEX_CHECK(geometry.block_bytes > 0 && context_tokens > 0);
  const std::uint64_t budget = kv_bytes.value_or(kDefaultKvBytes);
  std::uint64_t blocks = budget / geometry.block_bytes;
  if (blocks == 0) {
    throw Error(ErrorCode::invalid_option, fmt::format("kv_bytes: {} bytes hold no block; this model's take {} each",
                                                       budget, geometry.block_bytes));
  }
  if (!kv_bytes) {
    blocks = std::min(blocks, static_cast<std::uint64_t>(blocks_of(context_tokens)) * kDefaultKvSequences);
  }
  return static_cast<int>(std::min<std::uint64_t>(blocks, kMostBlocks));
}

std::uint64_t MemoryPlan::least_bytes() const {
  return total_bytes() - grammar_cache_bytes + std::min(grammar_cache_bytes, kLeastGrammarCacheBytes);
}

GrammarNeeds grammar_needs(int grammar_vocabulary) {
  if (grammar_vocabulary == 0) return {};
  return {.trie_bytes = static_cast<std::uint64_t>(grammar_vocabulary) * kTrieBytesPerToken,
          .cache_bytes = kLeastGrammarCacheBytes};
}

int grammar_vocabulary_of(const Model& model, ModelKind kind) {
  return kind == ModelKind::chat && model.chat_template ? model.vocabulary() : 0;
}

std::string to_text(const MemoryPlan& plan) {
  std::string text =
      plan.weights == WeightPrecision::as_given ? "weights as given" : fmt::format("{} weights", name_of(plan.weights));
  if (plan.layers == 0) return text;
  if (plan.resident_layers < plan.layers) {
    text += fmt::format(" with {} of {} layers in memory", plan.resident_layers, plan.layers);
  }
  return text + fmt::format(", {}KV of {} blocks, {} rows a step{}", plan.kv_8_bits ? "8-bit " : "", plan.kv_blocks,
                            plan.rows_per_step, plan.no_grammars ? ", no grammars" : "");
}

std::optional<DecoderNeeds> needs_on(const Backend& backend, const DecoderModel& model, const DecoderHolding& holding) {
  if (backend.lacks(holding)) return std::nullopt;
  return backend.needs(model.spec, model.weights, holding);
}

std::optional<EncoderNeeds> needs_on(const Backend& backend, const EncoderModel& model, WeightPrecision weights) {
  if (backend.lacks(DecoderHolding{.weights = weights})) return std::nullopt;
  return backend.needs(model.spec, model.weights, weights);
}

PlanOutcome plan_decoder(const DecoderNeedsOf& needs_of, const DecoderWants& wants,
                         std::optional<std::uint64_t> budget_bytes) {
  CORTEX_CHECK(wants.kv_blocks > 0 && wants.rows_per_step > 0 && wants.context_tokens > 0);
  const int least = std::min(wants.kv_blocks, blocks_of(std::min(wants.context_tokens, kLeastTokens)));
  const int fewest = std::min(least, blocks_of(kFewestTokens));
  std::vector<Candidate> candidates = whole_candidates(needs_of, wants.rows_per_step);
  CORTEX_CHECK(!candidates.empty());
  for (Candidate& candidate : candidates) candidate.grammars = grammar_needs(wants.grammar_vocabulary);
  const auto fewer_bits = [](const Candidate& candidate) {
    return candidate.holding.weights != WeightPrecision::as_given || candidate.holding.kv_8_bits;
  };
  const auto with_all_bits = std::ranges::find_if(candidates, fewer_bits) - 1;
  PlanOutcome outcome{.plan = {}, .least = {}, .modest = with_all_bits->plan(least)};
  Candidate smallest = candidates.back();
  if (wants.may_stream) smallest.holding.resident_layers = 0;
  if (!needs_of(smallest.holding)) smallest.holding.resident_layers = kAllLayers;
  outcome.plan = fit(candidates, smallest, wants.kv_blocks, least, budget_bytes);
  if (!outcome.plan && wants.grammar_vocabulary > 0) {
    for (Candidate& candidate : candidates) candidate.take_no_grammars();
    smallest.take_no_grammars();
    outcome.plan = fit(candidates, smallest, wants.kv_blocks, least, budget_bytes);
  }
  smallest.take_no_grammars();
  outcome.least = smallest.plan(fewest);
  if (outcome.plan) return outcome;
  const int blocks = std::min(least, smallest.blocks_within(budget_bytes));
  if (blocks >= fewest) outcome.plan = smallest.plan(blocks);
  return outcome;
}

PlanOutcome plan_encoder(const EncoderNeedsOf& needs_of, std::optional<std::uint64_t> budget_bytes) {
  PlanOutcome outcome;
  for (const WeightPrecision weights : {WeightPrecision::as_given, WeightPrecision::bits_8, WeightPrecision::bits_4}) {
    const auto needs = needs_of(weights);
    if (!needs || (weights != WeightPrecision::as_given && needs->weight_bytes >= outcome.least.weight_bytes)) continue;
    outcome.least = {.weights = weights, .weight_bytes = needs->weight_bytes, .step_bytes = needs->step_bytes};
    if (weights == WeightPrecision::as_given) outcome.modest = outcome.least;
    if (!outcome.plan && outcome.least.total_bytes() <= budget_bytes.value_or(outcome.least.total_bytes())) {
      outcome.plan = outcome.least;
    }
  }
  return outcome;
}

const MemoryPlan& planned(const PlanOutcome& outcome, std::optional<std::uint64_t> budget_bytes, ErrorCode code) {
  if (outcome.plan) return *outcome.plan;
  const MemoryPlan& least = outcome.least;
  const std::uint64_t needed = least.total_bytes();
  throw Error(code, fmt::format("--memory-budget: {} can't hold the model, which needs at least {} ({}: weights "
                                "{}, KV {}, scratch {}, grammars {}); --memory-budget {}MiB would hold it alone",
                                mebibytes(budget_bytes.value_or(0)), mebibytes(needed), to_text(least),
                                mebibytes(least.weight_bytes), mebibytes(least.kv_bytes), mebibytes(least.step_bytes),
                                mebibytes(least.grammar_bytes()), (needed + kMebibyte - 1) / kMebibyte));
}

PlanOutcome estimate_memory(const std::filesystem::path& model, const EstimateOptions& options) {
  return estimate_memory(open_model(real_file_system(), model), options);
}

PlanOutcome estimate_memory(const Model& model, const EstimateOptions& options) {
  const bool on_mlx = options.backend == "mlx";
  const auto cpu = open_backend("cpu", {.threads = options.threads, .exact = options.exact});
  if (const auto* encoder = std::get_if<EncoderModel>(&model.network)) {
    const auto needs_of = [&](WeightPrecision weights) -> std::optional<EncoderNeeds> {
      if (on_mlx && weights != WeightPrecision::as_given) return std::nullopt;
      if (on_mlx) return mlx_needs(encoder->spec, encoder->weights);
      return needs_on(*cpu, *encoder, weights);
    };
    return plan_encoder(needs_of, options.budget_bytes);
  }
  const auto& decoder = std::get<DecoderModel>(model.network);
  const int context = options.context_tokens.value_or(model.context_tokens());
  if (context < 1 || context > model.context_tokens()) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("context_length: {}; this model's is 1 to {}", context, model.context_tokens()),
                "context_length");
  }
  if (options.sequences < 1) {
    throw Error(ErrorCode::invalid_value, fmt::format("sequences: {}; at least 1", options.sequences), "sequences");
  }
  const auto needs_of = [&](const DecoderHolding& holding) -> std::optional<DecoderNeeds> {
    if (!on_mlx) return needs_on(*cpu, decoder, holding);
    if (mlx_lacks(holding)) return std::nullopt;
    return mlx_needs(decoder.spec, decoder.weights, holding);
  };
  auto blocks =
      static_cast<int>(std::min<std::int64_t>(std::int64_t{options.sequences} * blocks_of(context), kMostBlocks));
  if (options.kv_bytes) {
    const KvGeometry geometry{.block_bytes = needs_of({}).value().kv_kept_bytes, .layout = {}, .numeric_class = {}};
    blocks = kv_block_count(geometry, context, options.kv_bytes);
  }
  return plan_decoder(needs_of,
                      {.kv_blocks = blocks,
                       .rows_per_step = options.rows_per_step,
                       .context_tokens = context,
                       .may_stream = options.may_stream,
                       .grammar_vocabulary = grammar_vocabulary_of(model, options.kind.value_or(model.kind))},
                      options.budget_bytes);
}

}  // namespace cortex
