#include "backend/mlx/decoder.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "backend/mlx/step_layout.h"
#include "backend/mlx_needs.h"
#include "backend/plan_check.h"
#include "backend/sampler.h"
#include "base/error.h"

namespace cortex {
namespace {

std::variant<MlxFeedForward, MlxExperts> load_mlp(const DecoderSpec& spec, bool experts,
                                                  const DecoderLayerWeights& weights) {
  if (experts) return MlxExperts(spec.experts.value(), spec.activation, weights);
  return MlxFeedForward(spec.activation, {weights.gate.value(), weights.gate_bias},
                        {weights.up.value(), weights.up_bias}, {weights.down.value(), weights.down_bias});
}

}  // namespace

MlxDecoder::Layer::Layer(const DecoderSpec& spec, int layer, const DecoderLayerWeights& weights)
    : attention_norms{load_rms_norm(weights.attention_norm, spec.norm_epsilon),
                      load_rms_norm(weights.attention_post_norm, spec.norm_epsilon)},
      mlp_norms{load_rms_norm(weights.mlp_norm, spec.norm_epsilon),
                load_rms_norm(weights.mlp_post_norm, spec.norm_epsilon)},
      attention(spec, layer, weights),
      mlp(load_mlp(spec, spec.layers[static_cast<std::size_t>(layer)].experts, weights)) {}

std::size_t MlxDecoder::Layer::bytes() const {
  std::size_t bytes = attention.bytes() + std::visit([](const auto& part) { return part.bytes(); }, mlp);
  for (const Norms& norms : {attention_norms, mlp_norms}) bytes += bytes_of(norms.before) + bytes_of(norms.after);
  return bytes;
}

MlxDecoder::MlxDecoder(const DecoderSpec& spec, const DecoderWeights& weights, std::string numeric_class,
                       const LoadProgress& progress)
    : spec_(spec),
      numeric_class_(std::move(numeric_class)),
      embedding_(load_array(weights.embedding)),
      head_(weights.head ? load_array(*weights.head) : embedding_),
      final_norm_(weights.final_norm, spec.norm_epsilon),
      pool_(spec) {
  weight_bytes_ = embedding_.nbytes() + (weights.head ? head_.nbytes() : 0) + final_norm_.bytes();
  for (const DecoderLayerWeights& layer : weights.layers) {
    weight_bytes_ += layers_.emplace_back(spec_, static_cast<int>(layers_.size()), layer).bytes();
    if (progress) progress(static_cast<double>(layers_.size()) / static_cast<double>(weights.layers.size()));
  }
}

KvGeometry MlxDecoder::kv_geometry() const {
  return {.block_bytes = pool_.block_bytes(),
          .layout = "layer, k and v, head, token, element; float32",
          .numeric_class = numeric_class_};
}

std::size_t MlxDecoder::memory_bytes() const { return weight_bytes_ + pool_.bytes(); }

template <typename Work>
auto MlxDecoder::guarded(Work&& work) {
  if (!failure_.empty()) throw Error(ErrorCode::model_failed, fmt::format("the MLX device failed: {}", failure_));
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const CheckFailure&) {
    throw;
  } catch (const std::exception& failure) {
    failure_ = failure.what();
    throw Error(ErrorCode::model_failed, fmt::format("the MLX device failed: {}", failure_));
  }
}

void MlxDecoder::reserve_kv(int blocks) {
  guarded([&] { pool_.reserve(blocks); });
}

void MlxDecoder::submit(const StepPlan& plan) {
  check_plan(plan, {.vocabulary = spec_.vocabulary,
                    .context_tokens = spec_.context_tokens,
                    .kv_blocks = pool_.blocks(),
                    .last_step = last_rows_});
  const std::vector<TokenId> tokens = resolved_tokens(plan, last_rows_);
  last_rows_.clear();
  submitted_ = false;
  if (!tokens.empty()) last_rows_ = guarded([&] { return step(plan, tokens); });
  submitted_ = true;
}

void MlxDecoder::collect(StepResult* result) {
  CORTEX_CHECK(submitted_);
  submitted_ = false;
  result->rows = last_rows_;
}

void MlxDecoder::read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) {
  check_blocks(blocks, pool_.blocks());
  check_block_bytes(blocks, pool_.block_bytes(), out.size());
  guarded([&] { pool_.read_blocks(blocks, out); });
}

void MlxDecoder::write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) {
  check_blocks(blocks, pool_.blocks());
  check_block_bytes(blocks, pool_.block_bytes(), bytes.size());
  guarded([&] { pool_.write_blocks(blocks, bytes); });
}

// One array holds a layer's blocks: there is nothing to give back block by block.
void MlxDecoder::discard(std::span<const BlockId> blocks) { check_blocks(blocks, pool_.blocks()); }

mx::array MlxDecoder::body(const StepPlan& plan, std::span<const TokenId> tokens) {
  const StepLayout layout = lay_out(plan, spec_, pool_);
  mx::array x = take(embedding_, CheckedIds(tokens, spec_.vocabulary), 0);
  if (spec_.embedding_scale != 1.0f) x = x * mx::array(spec_.embedding_scale, kDtype);
  const auto branch = [&](const Norms& norms, const auto& f) {
    const mx::array y = f(norms.before ? (*norms.before)(x) : x);
    x = x + (norms.after ? (*norms.after)(y) : y);
  };
  for (const Layer& layer : layers_) {
    branch(layer.attention_norms, [&](const mx::array& in) { return layer.attention(in, layout, pool_); });
    branch(layer.mlp_norms,
           [&](const mx::array& in) { return std::visit([&](const auto& mlp) { return mlp(in); }, layer.mlp); });
  }
  return x;
}

std::vector<RowResult> MlxDecoder::step(const StepPlan& plan, std::span<const TokenId> tokens) {
  const mx::array x = body(plan, tokens);
  std::vector<mx::array> outputs = pool_.arrays();
  if (plan.wanted.empty()) {
    mx::eval(std::move(outputs));
    return {};
  }
  std::vector<std::int32_t> wanted_rows;
  for (const WantedRow& wanted : plan.wanted) wanted_rows.push_back(wanted.row);
  const mx::array hidden = final_norm_(take(x, CheckedIds(wanted_rows, x.shape(0)), 0));
  outputs.push_back(hidden);
  mx::eval(std::move(outputs));
  return sample(plan, hidden);
}

// `hidden` [W, hidden], evaluated.
std::vector<RowResult> MlxDecoder::sample(const StepPlan& plan, const mx::array& hidden) const {
  std::vector<RowResult> results(plan.wanted.size());
  std::vector<std::int32_t> logit_rows;
  const auto finish = [&](std::int32_t row, std::span<const float> logits) {
    const WantedRow& wanted = plan.wanted[static_cast<std::size_t>(row)];
    const std::span<const float> state = wanted.hidden ? host_row(hidden, row) : std::span<const float>{};
    results[static_cast<std::size_t>(row)] = sample_row(logits, state, wanted);
  };
  for (std::int32_t row = 0; row < hidden.shape(0); ++row) {
    if (wants_logits(plan.wanted[static_cast<std::size_t>(row)])) {
      logit_rows.push_back(row);
    } else {
      finish(row, {});
    }
  }
  const std::size_t row_bytes = static_cast<std::size_t>(spec_.vocabulary) * sizeof(float);
  const std::size_t rows_at_once = std::max<std::size_t>(1, kLogitBytes / row_bytes);
  for (std::size_t first = 0; first < logit_rows.size(); first += rows_at_once) {
    const std::span<const std::int32_t> group =
        std::span(logit_rows).subspan(first, std::min(rows_at_once, logit_rows.size() - first));
    mx::array logits = mx::matmul(take(hidden, CheckedIds(group, hidden.shape(0)), 0), mx::transpose(head_));
    logits.eval();
    for (std::size_t i = 0; i < group.size(); ++i) finish(group[i], host_row(logits, static_cast<int>(i)));
  }
  return results;
}

}  // namespace cortex
