#include "backend/cpu/decoder.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "backend/cpu/flush_denormals.h"
#include "backend/cpu/kernels.h"
#include "backend/plan_check.h"
#include "backend/sampler.h"
#include "base/error.h"

namespace cortex {
namespace {

// Wanted rows that pass the head together: enough to share its weights, few enough for the logits to stay small.
constexpr std::size_t kHeadRows = 64;

std::size_t elements_of(const DecoderSpec& spec) {
  const auto hidden = static_cast<std::size_t>(spec.hidden);
  const std::size_t attention =
      static_cast<std::size_t>(2 * spec.heads + 2 * spec.kv_heads) * static_cast<std::size_t>(spec.head_dim) * hidden;
  const std::size_t feed_forward = 3 * static_cast<std::size_t>(spec.intermediate) * hidden;
  const ExpertsSpec mixture = spec.experts.value_or(ExpertsSpec{});
  const std::size_t experts =
      static_cast<std::size_t>(mixture.count) * (3 * static_cast<std::size_t>(mixture.intermediate) + 1) * hidden;
  std::size_t elements = hidden * static_cast<std::size_t>(spec.vocabulary) * (spec.tied_head ? 1 : 2);
  for (const DecoderLayerSpec& layer : spec.layers) elements += attention + (layer.experts ? experts : feed_forward);
  return elements;
}

std::variant<CpuFeedForward, CpuExperts> read_mlp(const DecoderSpec& spec, bool experts,
                                                  const DecoderLayerWeights& weights, WeightLoader& loader,
                                                  Arithmetic arithmetic) {
  if (experts) return CpuExperts(loader, arithmetic, spec.experts.value(), spec.activation, weights);
  return CpuFeedForward(loader, arithmetic, spec.activation, LinearView(weights.gate.value(), weights.gate_bias),
                        {weights.up.value(), weights.up_bias}, {weights.down.value(), weights.down_bias});
}

// Goes up whenever a change of the arithmetic, in any of the kernels, changes what is kept of a token.
constexpr std::string_view kArithmeticVersion = "1";

// Exact arithmetic is the same bits on every instruction set; sums over bfloat16 are not.
std::string numeric_class(Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::exact) return fmt::format("cpu-exact-{}", kArithmeticVersion);
  return fmt::format("cpu-fast-{}-{}", kArithmeticVersion, kernels().name);
}

}  // namespace

CpuDecoder::CpuDecoder(const DecoderSpec& spec, const DecoderWeights& weights, const LoadProgress& progress,
                       std::shared_ptr<ThreadTeam> team, Arithmetic arithmetic)
    : spec_(spec),
      arithmetic_(arithmetic),
      width_(static_cast<std::size_t>((spec.hidden + kPanelRows - 1) / kPanelRows * kPanelRows)),
      team_(std::move(team)),
      attention_(spec, arithmetic, team_) {
  const FloatPacking floats = arithmetic == Arithmetic::exact ? FloatPacking::f32 : FloatPacking::bf16;
  WeightLoader loader(arena_, floats, elements_of(spec), progress);
  embedding_ = Projection(loader, arithmetic, {weights.embedding});
  for (const DecoderLayerWeights& layer : weights.layers) {
    layers_.push_back(read_layer(static_cast<int>(layers_.size()), layer, loader, arithmetic));
  }
  final_norm_ = loader.vector(weights.final_norm);
  if (weights.head) head_ = Projection(loader, arithmetic, {*weights.head});
}

CpuDecoder::Layer CpuDecoder::read_layer(int layer, const DecoderLayerWeights& weights, WeightLoader& loader,
                                         Arithmetic arithmetic) const {
  return {.attention_norms = {loader.vector(weights.attention_norm), loader.vector(weights.attention_post_norm)},
          .mlp_norms = {loader.vector(weights.mlp_norm), loader.vector(weights.mlp_post_norm)},
          .attention = AttentionWeights(loader, arithmetic, weights),
          .mlp = read_mlp(spec_, spec_.layers[static_cast<std::size_t>(layer)].experts, weights, loader, arithmetic)};
}

KvGeometry CpuDecoder::kv_geometry() const {
  KvGeometry geometry = attention_.kv().geometry();
  geometry.numeric_class = numeric_class(arithmetic_);
  return geometry;
}

void CpuDecoder::submit(const StepPlan& plan) {
  check_plan(plan, {.vocabulary = spec_.vocabulary,
                    .context_tokens = spec_.context_tokens,
                    .kv_blocks = attention_.kv().blocks(),
                    .last_step = last_step_});
  result_.reset();
  const FlushDenormals flush;
  rows_ = static_cast<int>(plan.tokens.size());
  attention_.lay_out(plan);
  embed(resolved_tokens(plan, last_step_));
  Vector after;  // of the branch whose output waits in update_
  for (int index = 0; index < static_cast<int>(layers_.size()); ++index) {
    const Layer& layer = layers_[static_cast<std::size_t>(index)];
    enter_branch(after, layer.attention_norms.before, layer.attention.query_key_value);
    after = layer.attention_norms.after;
    attention_.run(index, layer.attention, in_, branch_end(after), branch_out(after), width_);
    std::visit(
        [&](const auto& mlp) {
          enter_branch(after, layer.mlp_norms.before, mlp.first());
          after = layer.mlp_norms.after;
          mlp.run(*team_, in_, rows_, feed_forward_, branch_end(after), branch_out(after), width_);
        },
        layer.mlp);
  }
  finish(plan, after);
}

void CpuDecoder::collect(StepResult* result) {
  CORTEX_CHECK(result_.has_value());
  *result = std::move(*result_);
  result_.reset();
}

std::size_t CpuDecoder::memory_bytes() const {
  const std::size_t floats = stream_.capacity() + update_.capacity();
  return arena_.bytes_used() + attention_.memory_bytes() + in_.memory_bytes() + feed_forward_.memory_bytes() +
         language_head_.memory_bytes() + floats * sizeof(float);
}

void CpuDecoder::embed(const std::vector<TokenId>& tokens) {
  stream_.assign(tokens.size() * width_, 0.0f);
  update_.resize(stream_.size());
  team_->for_rows(rows_, [&](int row) {
    float* out = stream_row(row);
    embedding_.unpack_row(tokens[static_cast<std::size_t>(row)], out);
    for (int i = 0; i < spec_.hidden; ++i) out[i] *= spec_.embedding_scale;
  });
}

void CpuDecoder::add_update(int row, const Vector& after) {
  if (after.empty()) return;
  float* update = update_.data() + static_cast<std::size_t>(row) * width_;
  kernels().rms_norm(update, after.values, spec_.norm_epsilon, spec_.hidden, update);
  kernels().add(stream_row(row), update, static_cast<std::size_t>(spec_.hidden));
}

void CpuDecoder::enter_branch(const Vector& after, const Vector& before, const Projection& next) {
  in_.reshape(rows_, spec_.hidden, next.padded_columns(), next.products());
  team_->for_rows(rows_, [&](int row) {
    add_update(row, after);
    if (before.empty()) {
      std::copy_n(stream_row(row), spec_.hidden, in_.row(row));
    } else {
      kernels().rms_norm(stream_row(row), before.values, spec_.norm_epsilon, spec_.hidden, in_.row(row));
    }
    in_.pack(row);
  });
}

void CpuDecoder::finish(const StepPlan& plan, const Vector& after) {
  for (const WantedRow& wanted : plan.wanted) add_update(wanted.row, after);
  std::vector<RowResult> results(plan.wanted.size());
  for (std::size_t begin = 0; begin < results.size(); begin += kHeadRows) {
    const std::size_t count = std::min(kHeadRows, results.size() - begin);
    finish_rows(std::span(plan.wanted).subspan(begin, count), std::span(results).subspan(begin, count));
  }
  last_step_.assign(plan.wanted.size(), {});
  for (std::size_t i = 0; i < last_step_.size(); ++i) last_step_[i].token = results[i].token;
  result_ = StepResult{std::move(results)};
}

void CpuDecoder::finish_rows(std::span<const WantedRow> wanted, std::span<RowResult> results) {
  const Projection& head = spec_.tied_head ? embedding_ : head_;
  in_.reshape(static_cast<int>(wanted.size()), spec_.hidden, head.padded_columns(), head.products());
  for (int i = 0; i < static_cast<int>(wanted.size()); ++i) {
    const int row = wanted[static_cast<std::size_t>(i)].row;
    kernels().rms_norm(stream_row(row), final_norm_.values, spec_.norm_epsilon, spec_.hidden, in_.row(i));
    in_.pack(i);
  }
  language_head_.run(*team_, head, spec_.vocabulary, in_, wanted, results);
}

}  // namespace cortex
